"""Read in which precision weights are stored, and say it in the configuration that is stored beside them."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch

from transformers_llava.artifacts.snapshots import local_folder
from transformers_llava.conversion.weights.tensor_files import open_state
from transformers_llava.modeling.configuration_open_llava import OpenLlavaConfig


# What a model can be loaded as. Quantised weights have types of their own, and are left to those who know them.
_PLAIN = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_PARTS = {"": ("",), "text_config": ("model.language_model.", "lm_head."), "vision_config": ("model.vision_tower.",)}


def dtype_to_load(name: str, revision: str | None = None) -> torch.dtype | str:
    """
    The precision in which a model can be loaded without losing a bit of what is stored.

    `dtype="auto"` would take what `config.json` says, which need not be what the weights are.

    Args:
        name (`str`): Folder or Hub id.
        revision (`str`, *optional*): Of the Hub repository.

    Returns:
        `torch.dtype`: That of the weights; float32, which holds all of them, where they have several. `"auto"` where
        there are no weights to look at.
    """
    folder = local_folder(name, revision, with_weights=True)
    if folder is None:
        return "auto"
    try:
        found = {tensor.dtype for tensor in open_state(folder).values() if tensor.dtype.is_floating_point}
    except ValueError:  # no weights here that can be read; who loads them says why
        return "auto"
    if not found or not found <= set(_PLAIN):
        return "auto"
    return found.pop() if len(found) == 1 else torch.float64 if torch.float64 in found else torch.float32


def main_dtypes(state: Mapping[str, torch.Tensor]) -> dict[str, torch.dtype]:
    """
    The precision of most bytes of the weights, under `""`, and of those of `text_config` and `vision_config`.

    Args:
        state (`Mapping[str, torch.Tensor]`): Under a LLaVA's names.
    """
    sizes = {part: _bytes_by_dtype(state, prefixes) for part, prefixes in _PARTS.items()}
    return {part: found.most_common(1)[0][0] for part, found in sizes.items() if found}


def save_dtypes(config: OpenLlavaConfig, dtypes: Mapping[str, torch.dtype], folder: Path) -> None:
    """
    Saves a configuration again, for `save_pretrained` of a model names the precision in which it was held.

    Args:
        config ([`OpenLlavaConfig`]): Changed in place.
        dtypes (`Mapping`): See [`main_dtypes`].
        folder (`Path`): Where its weights lie.
    """
    for part, dtype in dtypes.items():
        (getattr(config, part) if part else config).dtype = dtype
    config.save_pretrained(folder)


def _bytes_by_dtype(state: Mapping[str, torch.Tensor], prefixes: tuple[str, ...]) -> Counter[torch.dtype]:
    sizes: Counter[torch.dtype] = Counter()
    for name, tensor in state.items():
        if name.startswith(prefixes) and tensor.is_floating_point():
            sizes[tensor.dtype] += tensor.nbytes
    return sizes


__all__ = ["dtype_to_load", "main_dtypes", "save_dtypes"]
