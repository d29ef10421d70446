"""Quantize a frozen language model to four bits, for stage 1 and LoRA on small GPUs (Dettmers et al. 2023)."""

from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from transformers_llava.training.recipe.configs import ComponentConfig
from transformers_llava.training.recipe.recipe_error import RecipeError


def quantize_language_model(model: nn.Module, config: ComponentConfig, compute_dtype: torch.dtype) -> int:
    """
    Replaces the linear layers of the language model by four-bit ones, in place, where the recipe asks for it.

    Vision tower, projector, embeddings and head stay as they are. transformers' own quantised loading would skip by
    names that do not match a LLaVA's, and its Trainer refuses to train a projector beside a quantised model; layers of
    bitsandbytes in an ordinary model have neither problem.

    Args:
        model (`nn.Module`):
            An OpenLlava model, components already frozen.
        config (`ComponentConfig`):
            Of the language model; nothing happens without its `quantization`.
        compute_dtype (`torch.dtype`):
            What a weight is expanded to when it is used.

    Returns:
        `int`: how many layers were replaced.

    Raises:
        `RecipeError`: bitsandbytes is not installed, or the language model is trained in full.
    """
    if config.quantization is None:
        return 0
    if config.mode == "full":
        raise RecipeError(
            "the language model is quantised and trained in full, but four-bit weights take no gradient. Use "
            "`mode: lora` (QLoRA) or `mode: frozen`."
        )
    if find_spec("bitsandbytes") is None:
        raise RecipeError(
            "`quantization: nf4` needs bitsandbytes, which is not installed. "
            "`pip install 'transformers-llava[quantization]'`."
        )
    import bitsandbytes

    language_model: Any = model.model.language_model  # type: ignore[union-attr]
    linear = [(name, module) for name, module in language_model.named_modules() if type(module) is nn.Linear]
    for name, module in linear:
        parent_name, _, own_name = name.rpartition(".")
        four_bit = bitsandbytes.nn.Linear4bit(
            module.in_features,
            module.out_features,
            bias=module.bias is not None,
            compute_dtype=compute_dtype,
            compress_statistics=True,
            quant_type=config.quantization,
        )
        device = module.weight.device
        weight = module.weight.data.to(compute_dtype)
        four_bit.weight = bitsandbytes.nn.Params4bit(
            weight, requires_grad=False, compress_statistics=True, quant_type=config.quantization
        )
        if module.bias is not None:
            four_bit.bias = nn.Parameter(module.bias.data, requires_grad=False)
        setattr(language_model.get_submodule(parent_name), own_name, four_bit.to(device))
    return len(linear)


__all__ = ["quantize_language_model"]
