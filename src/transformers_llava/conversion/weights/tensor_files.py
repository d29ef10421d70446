"""Open the weight files of a checkpoint as tensors that are read one at a time."""

import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from transformers_llava.artifacts.untrusted import checked_name, read_json
from transformers_llava.conversion.weights.lazy_tensors import LazyTensor, State
from transformers_llava.modeling.loading.weight_files import lazy_state_dict, refused_pickle


# By the names of safetensors.
DTYPES = {
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


def map_files(files: Iterable[str | Path]) -> State:
    """All tensors of several files, every file open and memory-mapped: threads may read them at the same time."""
    return {key: _mapped(part) for key, part in lazy_state_dict(files).items()}


def open_file(file: str | Path) -> State:
    """All tensors of one safetensors or `.bin` file. Of a `.bin` only tensors are read; whatever else is refused."""
    return open_files([file])


def _mapped(part: Any) -> LazyTensor:
    """One value of [`lazy_state_dict`]: a tensor, or a slice of a safetensors file."""
    if isinstance(part, torch.Tensor):
        return LazyTensor(tuple(part.shape), part.dtype, lambda: part, mapped=part)
    return LazyTensor(tuple(part.get_shape()), DTYPES[str(part.get_dtype())], lambda: part[...], mapped=part)


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
        unknown = [f"{key!r} of type {dtype}" for key, (_, dtype) in found.items() if dtype not in DTYPES]
        if unknown:
            raise ValueError(
                f"{file} holds {len(unknown)} tensors of types that no LLaVA's weights have, such as {unknown[0]} "
                "(MLX and others store quantized weights so). Convert the checkpoint that they were quantized from."
            )
        return {
            key: LazyTensor(shape, DTYPES[dtype], _safetensors_reader(file, key), file.name)
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
            f"{file} cannot be read as weights ({reason}); it is damaged or was not downloaded "
            "completely. Fetch it again."
        ) from None


__all__ = ["DTYPES", "map_files", "open_file", "open_files", "open_state", "weight_files"]
