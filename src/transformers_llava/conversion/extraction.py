"""Only the projector of a checkpoint of any kind, in one file."""

import uuid
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from transformers_llava.conversion.checkpoints import as_dtype, cast_state
from transformers_llava.conversion.projector import projector_tensors
from transformers_llava.conversion.sources import open_source


def extract_projector(
    source: str | Path, target: str | Path, *, dtype: str | torch.dtype | None = None, **options: Any
) -> list[str]:
    """
    Writes the projector of a checkpoint to one file, which appears whole or not at all.

    Args:
        source (`str`): Folder or Hub id of any kind that [`convert_checkpoint`] reads.
        target (`str`): `*.bin`: under the original's names, which its stage 2 (`--pretrain_mm_mlp_adapter`) and this
            package read with a base; `*.safetensors`: under ours.
        dtype (`str` or `torch.dtype`, *optional*): Cast, as [`convert_checkpoint`] does.
        options: `base` and `vision_tower`, see [`open_source`].

    Returns:
        `list[str]`: Names of the tensors.
    """
    target = Path(target)
    if target.suffix not in (".bin", ".safetensors"):
        raise ValueError(
            f"{target} is neither a .bin (the original's names) nor a .safetensors file (ours), so the layout is "
            "unclear. Name the file accordingly."
        )
    if target.exists():
        raise ValueError(f"{target} exists. Nothing was written; choose another target.")
    opened = open_source(source, **options)
    state = cast_state(opened.state, as_dtype(dtype))
    tensors = projector_tensors(state, opened.config.projector_type, original_names=target.suffix == ".bin")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        if target.suffix == ".bin":
            torch.save(tensors, partial)
        else:
            save_file(tensors, partial, metadata={"format": "pt"})
        partial.rename(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return sorted(tensors)


__all__ = ["extract_projector"]
