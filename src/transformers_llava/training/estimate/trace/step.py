"""Run the trainer's own optimizer step on fake tensors and say what it computes, holds and sends."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from datasets import Dataset
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from transformers_llava.data.tokens.counting import ExampleLength
from transformers_llava.modeling.gpu_stand_in import cpu_stands_for_gpu
from transformers_llava.training.estimate.recipe_shapes import DataShape, plan_config
from transformers_llava.training.estimate.trace.device_reads import refuse_reads
from transformers_llava.training.estimate.trace.fake_parts import (
    collate_encoded,
    fake_batch,
    fake_model,
    fake_processor,
    typical_examples,
)
from transformers_llava.training.estimate.trace.live_bytes import LiveBytes
from transformers_llava.training.estimate.trace.operators import OperatorCounter, OperatorKey, OperatorTotals
from transformers_llava.training.estimate.trace.traced_step import TRACED_BACKENDS, TracedStep
from transformers_llava.training.model.gradient_checkpointing import limit_checkpointing
from transformers_llava.training.recipe.recipe import Recipe
from transformers_llava.training.trainer import LlavaTrainer


# DDP's reducer looks into tensors, so it cannot be traced. It copies gradients into buckets, which last, and once a
# step reduces and then gathers them.
_ALL_REDUCE = OperatorKey("ddp.all_reduce", "communication", 4)


def trace_step(recipe: Recipe, data: DataShape, *, backend: str, num_gpus: int) -> TracedStep:
    """
    Traces a step of [`LlavaTrainer`] at the shapes of the recipe; no weight is read and nothing is computed.

    With DDP its buckets and its all-reduce are added as arithmetic; everything else is counted.

    The optimizer's state exists before anything is counted, and where gradients are accumulated so do the gradients of
    an earlier micro-step: that is every later step's fullest moment.

    Args:
        recipe (`Recipe`): Names a model on this disk, or one of the packaged shapes.
        data (`DataShape`): Mean lengths of its examples.
        backend (`str`): One of [`TRACED_BACKENDS`].
        num_gpus (`int`): Processes. This one is the first of them; the others exist in name.

    Raises:
        `RecipeError`: the step waits for a value of the device; it names the line.
    """
    assert backend in TRACED_BACKENDS, backend
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with tempfile.TemporaryDirectory() as output_dir:
        trainer = _trainer(recipe, fake_model(recipe, mode), output_dir)
    args = recipe.sft
    examples = typical_examples(args.per_device_train_batch_size, data, trainer.model.config)
    batch = collate_encoded(examples, trainer.processing_class, packed=recipe.data.packed)
    with _processes(num_gpus if backend == "fsdp2" else 1) as mesh, cpu_stands_for_gpu(), refuse_reads(), mode:
        _wrap(trainer, mesh)
        trainer.create_optimizer()
        trainer.current_gradient_accumulation_steps = args.gradient_accumulation_steps
        _fill_gradients(trainer)
        _update(
            trainer
        )  # makes the optimizer's state; and sharded tensors work out their shapes, which runs operators
        live = _live_bytes(trainer)
        micro, update = OperatorCounter(), OperatorCounter(is_optimizer=True)
        if args.gradient_accumulation_steps > 1:
            live.add(_fill_gradients(trainer), "gradients")
        with live, micro:
            _micro_step(trainer, fake_batch(batch, mode), live)
        live.phase = "temporaries"
        with live, update:
            _update(trainer)
    operators = _sum(micro.totals, update.totals, args.gradient_accumulation_steps)
    peak = live.peak
    if backend == "ddp" and num_gpus > 1:
        buckets = sum(parameter.nbytes for parameter in _trained(trainer))
        operators[_ALL_REDUCE] = OperatorTotals(calls=1, bytes=2 * buckets)
        peak = replace(peak, gradients=peak.gradients + buckets)
    return TracedStep(
        operators=operators,
        peak=peak,
        num_micro_steps=args.gradient_accumulation_steps,
        num_tokens=batch["input_ids"].numel(),
    )


class _Tracer(LlavaTrainer):
    """The trainer of `llava train`, which leaves fake tensors where they are."""

    def _move_model_to_device(self, model: nn.Module, device: torch.device) -> None: ...


def _trainer(recipe: Recipe, model: Any, output_dir: str) -> LlavaTrainer:
    args = copy(recipe.sft)
    args.output_dir = output_dir
    return _Tracer(
        model=model,
        args=args,
        processing_class=fake_processor(plan_config(recipe.model)),
        train_dataset=Dataset.from_list([{"messages": [], "images": []}]),
        data_collator=lambda rows: rows,
        components=recipe.components,
        lengths=[ExampleLength(1, True)],
    )


@contextmanager
def _processes(num_gpus: int) -> Iterator[DeviceMesh | None]:
    """A process group of which the other members exist in name: collectives give tensors of the right shapes."""
    if num_gpus == 1:
        yield None
        return
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=num_gpus)
    try:
        yield init_device_mesh("cpu", (num_gpus,), mesh_dim_names=("fsdp",))
    finally:
        dist.destroy_process_group()


def _wrap(trainer: LlavaTrainer, mesh: DeviceMesh | None) -> None:
    """What accelerate makes of the model: it refuses to shard on a CPU, so its own function is called by hand."""
    model: Any = trainer.model
    args = trainer.args
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable(args.gradient_checkpointing_kwargs)
        if args.partial_checkpointing is not None:
            limit_checkpointing(model, args.partial_checkpointing)
    if mesh is not None:
        precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "no"
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="transformer_based_wrap", reshard_after_forward=True
        )
        if precision != "no":
            plugin.set_mixed_precision(precision)
        accelerator = SimpleNamespace(
            state=SimpleNamespace(fsdp_plugin=plugin),
            parallelism_config=SimpleNamespace(fsdp_dim_names=("fsdp",)),
            torch_device_mesh=mesh,
            mixed_precision=precision,
            is_main_process=False,
            device=torch.device("cpu"),
        )
        model = fsdp2_prepare_model(accelerator, model)
    # In evaluation mode accelerate adds autocast alone: nothing is moved, nothing is wrapped.
    trainer.model_wrapped = trainer.accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)


def _fill_gradients(trainer: LlavaTrainer) -> list[torch.Tensor]:
    """Those that an earlier micro-step left."""
    for parameter in _trained(trainer):
        parameter.grad = torch.zeros_like(parameter)
    return [parameter.grad for parameter in _trained(trainer) if parameter.grad is not None]


def _live_bytes(trainer: LlavaTrainer) -> LiveBytes:
    live = LiveBytes()
    live.add([*trainer.model.parameters(), *trainer.model.buffers()], "weights")
    states = trainer.optimizer.state.values()
    live.add([value for state in states for value in state.values() if isinstance(value, torch.Tensor)], "optimizer")
    return live


def _micro_step(trainer: LlavaTrainer, batch: dict[str, Any], live: LiveBytes) -> None:
    live.phase = "activations"
    backward = trainer.accelerator.backward

    def marked(loss: torch.Tensor, **kwargs: Any) -> None:
        live.phase = "temporaries"
        backward(loss, **kwargs)

    trainer.accelerator.backward = marked
    try:
        trainer.training_step(trainer.model_wrapped, batch, num_items_in_batch=torch.zeros((), dtype=torch.long))
    finally:
        trainer.accelerator.backward = backward
    live.add([parameter.grad for parameter in _trained(trainer) if parameter.grad is not None], "gradients")


def _update(trainer: LlavaTrainer) -> None:
    if trainer.args.max_grad_norm:
        nn.utils.clip_grad_norm_(_trained(trainer), trainer.args.max_grad_norm)
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()


def _trained(trainer: LlavaTrainer) -> list[nn.Parameter]:
    return [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]


def _sum(
    micro: dict[OperatorKey, OperatorTotals], update: dict[OperatorKey, OperatorTotals], num_micro_steps: int
) -> dict[OperatorKey, OperatorTotals]:
    total: dict[OperatorKey, OperatorTotals] = {}
    for counted, times in ((micro, num_micro_steps), (update, 1)):
        for key, totals in counted.items():
            into = total.setdefault(key, OperatorTotals())
            into.calls += times * totals.calls
            into.flops += times * totals.flops
            into.bytes += times * totals.bytes
    return total


__all__ = ["trace_step"]
