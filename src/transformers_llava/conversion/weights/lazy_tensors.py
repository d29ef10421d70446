"""Weight files to named tensors that are read one at a time, and such tensors back to shards.

Nothing here holds more than one tensor: a 13B checkpoint passes through a laptop. A `State` is a dictionary from
names to [`LazyTensor`]; merging, renaming and casting make new lazy tensors from old ones.
"""

import json
import math
import pickle
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from transformers_llava.artifacts.untrusted import checked_name, read_json
from transformers_llava.modeling.loading.weight_files import refused_pickle


@dataclass(frozen=True)
class LazyTensor:
    """
    A tensor that is known but not read.

    Attributes:
        shape (`tuple[int, ...]`)
        dtype (`torch.dtype`)
        read (`Callable`): Reads or computes it.
        file (`str`): Where it lies, for reports.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], torch.Tensor]
    file: str = ""

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def to(self, dtype: torch.dtype) -> "LazyTensor":
        """The same in another floating-point type; counters and masks keep theirs."""
        if dtype == self.dtype or not self.dtype.is_floating_point:
            return self
        return replace(self, dtype=dtype, read=lambda: self.read().to(dtype))

    def map(
        self, function: Callable[[torch.Tensor], torch.Tensor], shape: tuple[int, ...] | None = None
    ) -> "LazyTensor":
        """`function` of it, when it is read; `shape` if that changes it."""
        return replace(self, shape=shape or self.shape, read=lambda: function(self.read()))

    @classmethod
    def of(cls, tensor: torch.Tensor, file: str = "") -> "LazyTensor":
        return cls(tuple(tensor.shape), tensor.dtype, lambda: tensor, file)


State = dict[str, LazyTensor]


def weight_files(folder: str | Path) -> list[Path]:
    """
    The files that hold a checkpoint's weights, safetensors before `.bin`, sharded or whole.

    Raises:
        ValueError: If there are none, or if an index is none, leaves the folder or names files that are missing.
    """
    folder = Path(folder)
    for stem in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{stem}.index.json"
        if index.is_file():
            names = _shard_names(index, Path(stem).suffix)
            missing = [name for name in names if not (folder / name).is_file()]
            if missing:
                raise ValueError(
                    f"{index} names {len(names)} shards, but {folder} lacks {', '.join(missing)}; the checkpoint was "
                    "not downloaded completely. Fetch the missing files."
                )
            return [folder / name for name in names]
        if (folder / stem).is_file():
            return [folder / stem]
    raise ValueError(
        f"{folder} holds no weights: neither model.safetensors nor pytorch_model.bin, nor an index of shards. "
        "Give the folder that does."
    )


def open_state(folder: str | Path) -> State:
    """All tensors of a checkpoint folder, in the order of its files."""
    return open_files(weight_files(folder))


def open_files(files: Iterable[str | Path]) -> State:
    """All tensors of several files; of `.bin` files one at a time is open."""
    opened = _OpenBin()
    state: State = {}
    for file in files:
        state.update(_open_file(Path(file), opened))
    return state


def open_file(file: str | Path) -> State:
    """All tensors of one safetensors or `.bin` file. Of a `.bin` only tensors are read; whatever else is refused."""
    return open_files([file])


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
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?) ?(GB|MB|KB)?", str(size).strip(), re.IGNORECASE | re.ASCII)
    num_bytes = int(float(match[1]) * _UNITS[(match[2] or "").upper()]) if match and not isinstance(size, bool) else 0
    if num_bytes < 1:
        raise ValueError(
            f"max_shard_size={size!r} is no size. Write a number of bytes above 0, or a text such as '5GB' or '500MB'."
        )
    return num_bytes


def cast_tensor(tensor: LazyTensor, dtype: torch.dtype, name: str) -> LazyTensor:
    """
    A weight in another floating-point type, checked when it is read; `name` is its name in errors.

    Raises:
        ValueError: When it is read, if the type cannot hold one of its values: it would become infinite.
    """
    cast = tensor.to(dtype)
    if cast is tensor or torch.finfo(dtype).max >= torch.finfo(tensor.dtype).max:
        return cast

    def read() -> torch.Tensor:
        source = tensor.read()
        result = source.to(dtype)
        if (
            not _is_finite(result)
            and (too_large := source[result.float().isfinite().logical_not() & source.isfinite()]).numel()
        ):
            value = too_large[too_large.abs().argmax()].item()
            raise ValueError(
                f"{name} holds {value:g}, which {str(dtype).removeprefix('torch.')} cannot hold (its largest value is "
                f"{torch.finfo(dtype).max:g}): {too_large.numel()} values would become infinite, and answers with "
                "them. Nothing was written; use --dtype bfloat16, or leave --dtype out."
            )
        return result

    return replace(cast, read=read)


def cast_state(state: State, dtype: torch.dtype | None) -> State:
    """All tensors in another type, see [`cast_tensor`]; `None` leaves them as they are."""
    return state if dtype is None else {key: cast_tensor(tensor, dtype, key) for key, tensor in state.items()}


def as_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """A floating-point type by its name; `None` stays `None`."""
    wanted = getattr(torch, dtype, dtype) if isinstance(dtype, str) else dtype
    if wanted is not None and (not isinstance(wanted, torch.dtype) or not wanted.is_floating_point):
        raise ValueError(f"dtype={dtype!r} is no floating-point type. Use 'float32', 'bfloat16' or 'float16'.")
    return wanted


def fit_rows(tensor: LazyTensor, rows: int) -> LazyTensor:
    """
    An embedding table or head with `rows` rows: cut, or filled up with the mean of its rows.

    The original resizes both to the tokenizer's length after loading. Rows it adds are random there and stand for
    tokens that training never saw; the mean can never be the largest logit.
    """
    have = tensor.shape[0]
    if have == rows:
        return tensor
    shape = (rows, *tensor.shape[1:])
    if rows < have:
        return tensor.map(lambda table: table[:rows], shape)
    return tensor.map(lambda table: torch.cat([table, mean_row(table).expand(rows - have, *table.shape[1:])]), shape)


def mean_row(table: torch.Tensor) -> torch.Tensor:
    return table.float().mean(dim=0, keepdim=True).to(table.dtype)


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether there is neither NaN nor infinity, without a second tensor of that size."""
    if tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor if tensor.dtype.itemsize > 1 else tensor.float())
    return bool(low.isfinite() and high.isfinite())


def _open_file(file: Path, opened: "_OpenBin") -> State:
    if file.suffix == ".safetensors":
        try:
            with safe_open(file, framework="pt", backend="pread") as tensors:
                slices = {key: tensors.get_slice(key) for key in tensors.keys()}  # noqa: SIM118 (not a dict)
                found = {key: (tuple(part.get_shape()), str(part.get_dtype())) for key, part in slices.items()}
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(
                f"{file} cannot be read as weights ({' '.join(str(error).split())[:200]}); it is damaged or was not "
                "downloaded completely. Fetch it again."
            ) from None
        unknown = [f"{key!r} of type {dtype}" for key, (_, dtype) in found.items() if dtype not in _DTYPES]
        if unknown:
            raise ValueError(
                f"{file} holds {len(unknown)} tensors of types that no LLaVA's weights have, such as {unknown[0]} "
                "(MLX and others store quantized weights so). Convert the checkpoint that they were quantized from."
            )
        return {
            key: LazyTensor(shape, _DTYPES[dtype], _safetensors_reader(file, key), file.name)
            for key, (shape, dtype) in found.items()
        }
    return {
        key: LazyTensor(tuple(tensor.shape), tensor.dtype, _bin_reader(opened, file, key), file.name)
        for key, tensor in opened(file).items()
    }


def _shard_names(index: Path, suffix: str) -> list[str]:
    """The files that an index names: plain names of files beside it, and nothing else."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(
            f"{index} has no weight_map that says which file holds which tensor, so the weights cannot be found. "
            "Fetch the index again."
        )
    names = {checked_name(name, f"a file in the weight_map of {index}") for name in weight_map.values()}
    for name in names:
        if not name.endswith(suffix):
            raise ValueError(
                f"{index} names {name!r} as a file of weights, which is no {suffix} file. It is not read."
            )
    return sorted(names)


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


def _safetensors_reader(file: Path, key: str) -> Callable[[], torch.Tensor]:
    def read() -> torch.Tensor:
        with safe_open(file, framework="pt", backend="pread") as tensors:
            return tensors.get_tensor(key)

    return read


def _bin_reader(opened: "_OpenBin", file: Path, key: str) -> Callable[[], torch.Tensor]:
    return lambda: opened(file)[key]


class _OpenBin:
    """The one `.bin` of a state that is open, memory-mapped; opening the next lets go of it and of its pages."""

    def __init__(self) -> None:
        self._file: Path | None = None
        self._tensors: dict[str, torch.Tensor] = {}

    def __call__(self, file: Path) -> dict[str, torch.Tensor]:
        if self._file != file:
            self._file, self._tensors = None, {}
            loaded = _unpickle(file)
            if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
                raise ValueError(
                    f"{file} does not hold a plain dictionary of tensors, so it is no weight file of a checkpoint "
                    f"(it holds a {type(loaded).__name__}). Give the folder that holds the model's weights."
                )
            self._file, self._tensors = file, loaded
        return self._tensors


def _unpickle(file: Path) -> Any:
    try:
        try:
            return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # written by torch < 1.6: not a zip file, cannot be memory-mapped
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise refused_pickle(file, error) from None
    except Exception as error:  # the unpickler meets bytes of any kind with errors of any kind
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"{file} can not be read as weights ({reason}); it is damaged or was not downloaded "
            "completely. Fetch it again."
        ) from None


_UNITS = {"GB": 10**9, "MB": 10**6, "KB": 10**3, "": 1}
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


__all__ = [
    "LazyTensor",
    "State",
    "as_dtype",
    "cast_state",
    "cast_tensor",
    "fit_rows",
    "mean_row",
    "open_file",
    "open_state",
    "parse_size",
    "weight_files",
    "write_state",
]
