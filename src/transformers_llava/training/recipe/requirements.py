"""Refuse what a recipe asks of a machine that does not have it, before any data are read."""

import inspect
from typing import Any

import torch

from transformers_llava.modeling.packs.varlen_attention import VARLEN
from transformers_llava.training.recipe.recipe import Recipe
from transformers_llava.training.recipe.recipe_error import RecipeError


# Keywords that packs give to `torch.nn.attention.varlen.varlen_attn`: that came in torch 2.10, these in 2.11.
_OF_VARLEN = ("scale", "window_size")


def check_requirements(recipe: Recipe) -> None:
    """
    Compares a recipe with the machine that is to run it.

    Raises:
        `RecipeError`: The installed torch lacks what `varlen` needs on a GPU; or activations are to be moved to the
            CPU from the CPU.
    """
    device = recipe.sft.device.type
    if recipe.data.packed and recipe.model.attn_implementation == VARLEN:
        check_varlen(device)
    if recipe.sft.activation_offloading and device == "cpu":
        raise RecipeError(
            "`activation_offloading: true` moves activations from a GPU to the CPU, and this run is on the CPU. Leave "
            "it out; `gradient_checkpointing: true` saves memory here."
        )


def check_varlen(device: str) -> None:
    """
    Refuses `varlen` on a GPU where the installed torch has no such kernel, or not all that packs need of it.

    On a CPU every document is attended to by itself, with any torch.
    """
    if device != "cuda":
        return
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        lacks = "has no `torch.nn.attention.varlen`"
    else:
        missing = [name for name in _OF_VARLEN if name not in _parameters(varlen_attn)]
        if not missing:
            return
        lacks = f"has a `varlen_attn` without {' and '.join(missing)}"
    raise RecipeError(
        f"`attn_implementation: varlen` runs torch's own flash kernels on a GPU and needs torch 2.11, but torch "
        f"{torch.__version__} {lacks}. `pip install 'torch>=2.11'`; or use `attn_implementation: sdpa`, which builds "
        "a dense mask for every pack, or `packed: false`."
    )


def _parameters(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters)


__all__ = ["check_requirements", "check_varlen"]
