"""Store a trained model as it is published: what was frozen as it was read, what was trained as it is."""

from typing import Any

import torch
from peft import PeftModel

from transformers_llava.training.distributed import gathers_weights, plain_name, whole_weights
from transformers_llava.training.model.assembly import source_state
from transformers_llava.training.recipe.recipe import Recipe


def finished_state(trainer: Any, recipe: Recipe) -> dict[str, torch.Tensor] | None:
    """
    Every tensor of the finished model, from the source of the recipe and what learnt since.

    In training, what is frozen is held in half precision or four bits. Written from there it would not be the base
    model any more, though nothing of it was trained. So it is read again, in the precision in which it is stored;
    low-rank updates are added to it in float32 and kept in its own precision.

    Args:
        trainer (`LlavaTrainer`): After training. Collective with a sharded backend: call it in every process.
        recipe (`Recipe`): Says where the model came from.

    Returns:
        `dict`: on the process that saves, else `None`.
    """
    names = [name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad]
    if gathers_weights(trainer.accelerator):
        gathered = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    else:
        gathered = dict(trainer.accelerator.unwrap_model(trainer.model).named_parameters())
    if not trainer.args.should_save:
        return None
    learnt = {name: gathered[name].detach().cpu() for name in names}
    base = trainer.model.get_base_model() if isinstance(trainer.model, PeftModel) else trainer.model
    known = {plain_name(name) for name, _ in base.named_parameters() if not _is_of_peft(name)}
    known |= {name for name, _ in base.named_buffers() if name in base.state_dict()}
    with whole_weights(trainer.args.deepspeed_plugin):  # this process alone reads: nothing may be parted
        source = source_state(recipe.model, seed=recipe.sft.seed)
    state = {name: tensor for name, tensor in source.items() if name in known}
    tied: Any = base.all_tied_weights_keys
    missing = known - state.keys() - set(tied) - {plain_name(name) for name in learnt}
    if missing:
        raise RuntimeError(
            f"{len(missing)} tensors of the model are not where it was read from (for example {sorted(missing)[:3]}), "
            "so the finished model would be incomplete. The last checkpoint holds what was learnt."
        )
    for name, tensor in learnt.items():
        if ".lora_B." in name:
            continue
        if ".lora_A." not in name:
            state[plain_name(name)] = tensor
            continue
        (config,) = trainer.model.peft_config.values()
        target = plain_name(name).replace(".lora_A.default.weight", ".weight")
        update = learnt[name.replace(".lora_A.", ".lora_B.")].float() @ tensor.float()
        state[target] = (state[target].float() + config.lora_alpha / config.r * update).to(state[target].dtype)
    return state


def _is_of_peft(name: str) -> bool:
    return ".lora_" in name or ".original_module." in name


__all__ = ["finished_state"]
