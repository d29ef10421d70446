"""Write lazy tensors to safetensors shards, one tensor in memory at a time."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from transformers_llava.conversion.weights.lazy_tensors import State
from transformers_llava.conversion.weights.tensor_files import DTYPES


_UNITS = {"GB": 10**9, "MB": 10**6, "KB": 10**3, "": 1}
_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write_state(state: State, folder: str | Path, *, max_shard_size: int | str | None = None) -> list[str]:
    """
    Writes safetensors shards, reading each tensor when its turn comes.

    Args:
        max_shard_size (`int` or `str`, *optional*, defaults to `"5GB"`): Bytes per file, or a text such as `"500MB"`.

    Returns:
        Names of the files; an index is written beside them if there are several.
    """
    folder = Path(folder)
    shards = list(_split(state, parse_size(max_shard_size or "5GB")))
    names = [
        "model.safetensors" if len(shards) == 1 else f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        for i in range(1, len(shards) + 1)
    ]
    for name, shard in zip(names, shards, strict=True):
        _write_safetensors(shard, folder / name)
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(tensor.num_bytes for tensor in state.values())},
            "weight_map": {key: name for name, shard in zip(names, shards, strict=True) for key in shard},
        }
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return names


def parse_size(size: int | str) -> int:
    """
    Bytes of a size as transformers writes them.

    Example:

        >>> parse_size("500MB")
        500000000
    """
    # Not huggingface_hub's `parse_size_to_int`: its module is private, and it takes no bare number, but -5GB and 0GB.
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?) ?(GB|MB|KB)?", str(size).strip(), re.IGNORECASE | re.ASCII)
    num_bytes = int(float(match[1]) * _UNITS[(match[2] or "").upper()]) if match and not isinstance(size, bool) else 0
    if num_bytes < 1:
        raise ValueError(
            f"max_shard_size={size!r} is no size. Write a number of bytes above 0, or a text such as '5GB' or '500MB'."
        )
    return num_bytes


def _split(state: State, max_bytes: int) -> Iterator[State]:
    shard: State = {}
    size = 0
    for key, tensor in state.items():
        if shard and size + tensor.num_bytes > max_bytes:
            yield shard
            shard, size = {}, 0
        shard[key] = tensor
        size += tensor.num_bytes
    yield shard


def _write_safetensors(shard: State, file: Path) -> None:
    """
    The format by hand, because the library's writer takes all tensors of a file at once: the header's length in 8
    bytes, the header as JSON, then the tensors' bytes. Wide types first, so that each tensor starts at a multiple of
    its width.
    """
    order = sorted(shard, key=lambda key: -shard[key].dtype.itemsize)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for key in order:
        tensor = shard[key]
        header[key] = {
            "dtype": _DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, position + tensor.num_bytes],
        }
        position += tensor.num_bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(file, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for key in order:
            data = shard[key].read()
            assert tuple(data.shape) == shard[key].shape, (key, tuple(data.shape), shard[key].shape)
            assert data.dtype == shard[key].dtype, (key, data.dtype, shard[key].dtype)
            out.write(data.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
            del data  # before the next one is read


__all__ = ["parse_size", "write_state"]
