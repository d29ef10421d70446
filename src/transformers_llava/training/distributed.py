"""Compare what accelerate was asked for with what it runs: facts for the record, a refusal where they differ."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from transformers_llava.training.recipe.recipe_error import RecipeError


def check_backend(accelerator: Any) -> None:
    """
    Refuses to train on another backend than the environment asks for.

    accelerate runs FSDP and DeepSpeed on accelerators alone; elsewhere it takes their settings and trains unsharded,
    or in one process, without a word. What `accelerate launch` asks for stands in its environment variables.

    Raises:
        `RecipeError`: with what was asked for and what runs.
    """
    asked = _asked_for()
    runs = accelerator.distributed_type.value
    if asked is not None and runs != asked:
        raise RecipeError(
            f"{asked} was asked for, but accelerate runs {runs}: the model would be on every process as a whole. Use "
            "GPUs, or a configuration without sharding (`cpu`, `single_gpu`, `ddp`)."
        )
    if asked == "FSDP" and accelerator.state.fsdp_plugin.fsdp_version != 2:
        raise RecipeError(
            "the accelerate configuration asks for version 1 of FSDP, which cannot hold frozen and trained parameters "
            "in one unit. Set `fsdp_version: 2`, as the packaged `fsdp2` does."
        )
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != processes:
        raise RecipeError(
            f"{processes} processes were started, but accelerate runs {accelerator.num_processes}: each would train "
            "on its own, on all of the data. Check `num_processes` of the accelerate configuration."
        )


def _asked_for() -> str | None:
    for variable, kind in (("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DEEPSPEED")):
        if os.environ.get(variable, "false").lower() in ("true", "1"):
            return kind
    return None


def shards(args: Any) -> bool:
    """Whether FSDP or DeepSpeed is asked for: by `accelerate launch`, or by the recipe's own `fsdp` or `deepspeed`."""
    return _asked_for() is not None or bool(args.fsdp) or args.deepspeed is not None


def backend_facts(accelerator: Any, model: nn.Module) -> dict[str, Any]:
    """
    What runs, counted in the model itself once it is prepared.

    Returns:
        `dict`: `distributed_type`, `num_processes`, `num_tensors` of the model and how many of them are sharded
        (`num_sharded`), and `zero_stage` with DeepSpeed.

    Raises:
        `RecipeError`: FSDP or ZeRO-3 runs, but not one tensor is sharded.
    """
    parameters = list(model.parameters())
    facts: dict[str, Any] = {
        "distributed_type": accelerator.distributed_type.value,
        "num_processes": accelerator.num_processes,
        "num_tensors": len(parameters),
        "num_sharded": sum(isinstance(parameter, DTensor) or hasattr(parameter, "ds_id") for parameter in parameters),
    }
    stage = None
    if facts["distributed_type"] == "DEEPSPEED":
        stage = facts["zero_stage"] = int(accelerator.state.deepspeed_plugin.zero_stage)
    if (facts["distributed_type"] == "FSDP" or stage == 3) and facts["num_sharded"] == 0:
        raise RecipeError(
            f"{facts['distributed_type']} runs, but not one of {len(parameters)} tensors is sharded, so no memory "
            "would be saved. Check what the accelerate configuration wraps."
        )
    return facts


def describe_backend(facts: dict[str, Any]) -> str:
    """
    One line for the log.

    ```python
    >>> describe_backend({"distributed_type": "FSDP", "num_processes": 8, "num_tensors": 62, "num_sharded": 62})
    'FSDP, 8 processes, 62 of 62 tensors sharded'
    ```
    """
    stage = f" ZeRO-{facts['zero_stage']}" if "zero_stage" in facts else ""
    processes = f"{facts['num_processes']} process{'es' if facts['num_processes'] != 1 else ''}"
    return (
        f"{facts['distributed_type']}{stage}, {processes}, {facts['num_sharded']} of {facts['num_tensors']} tensors "
        "sharded"
    )


def unshard_output_embeddings(model: nn.Module) -> None:
    """
    Gathers `lm_head` before the root's forward, so that its gradient is reduced over the ranks.

    accelerate gives the output embeddings their own FSDP2 unit. TRL computes the loss from their weight without
    calling them: FSDP would gather the weight outside of the unit, and every rank would keep the gradient of its own
    examples. A unit that was gathered by hand is reduced with the others when the backward pass of the root ends.
    """
    get_output_embeddings = getattr(model, "get_output_embeddings", None)
    head = get_output_embeddings() if get_output_embeddings is not None else None
    if isinstance(head, FSDPModule):
        head.unshard()


@contextmanager
def whole_weights(deepspeed_plugin: Any) -> Iterator[None]:
    """
    While it holds, models load as a whole also under ZeRO-3.

    With a ZeRO-3 configuration in force, transformers parts every weight between the processes as it is read, and a
    model that is put together from a tower and a language model would be put together from empty tensors. DeepSpeed
    parts the finished model when training begins.

    Args:
        deepspeed_plugin (*optional*): `TrainingArguments.deepspeed_plugin`; nothing happens without one.
    """
    if deepspeed_plugin is None:
        yield
        return
    unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed_plugin.set_deepspeed_weakref()


def gathers_weights(accelerator: Any) -> bool:
    """Whether a checkpoint's weights come from the backend, under the names of the model that was prepared."""
    return accelerator.distributed_type.value in ("FSDP", "DEEPSPEED")


@contextmanager
def full_state_dicts(accelerator: Any) -> Iterator[None]:
    """While it holds, FSDP saves one complete model rather than a part per process: what others can load."""
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if accelerator.distributed_type.value != "FSDP" or plugin is None:
        yield
        return
    before = plugin.state_dict_type
    plugin.set_state_dict_type("FULL_STATE_DICT")
    try:
        yield
    finally:
        plugin.set_state_dict_type(before)


def plain_name(name: str) -> str:
    """
    A parameter's name without what peft wraps around it.

    ```python
    >>> plain_name("base_model.model.lm_head.base_layer.weight")
    'lm_head.weight'
    ```
    """
    name = name.removeprefix("base_model.model.")
    return name.replace(".base_layer.", ".").replace(".modules_to_save.default.", ".")


__all__ = [
    "backend_facts",
    "check_backend",
    "describe_backend",
    "full_state_dicts",
    "gathers_weights",
    "plain_name",
    "shards",
    "unshard_output_embeddings",
    "whole_weights",
]
