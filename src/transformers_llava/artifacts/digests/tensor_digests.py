"""Digest every tensor of the weight files of a folder, whatever their sharding."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open


class RepeatedTensorError(ValueError):
    """Two files of one folder hold a tensor of the same name: which of them is loaded is anybody's guess."""


def tensor_digests(folder: str | Path) -> dict[str, str]:
    """
    SHA-256 of type, shape and bytes of every tensor in the safetensors files of a folder, by name.

    Raises:
        `RepeatedTensorError`: two files hold the same name.
    """
    return tensor_digests_of_files(Path(folder).glob("*.safetensors"))


def tensor_digests_of_files(paths: Iterable[Path]) -> dict[str, str]:
    """The same of safetensors files wherever they lie, in the order of their names."""
    digests: dict[str, str] = {}
    for name, tensor in _tensors(sorted(paths, key=lambda path: path.name)):
        if name in digests:
            raise RepeatedTensorError(f"two weight files hold the tensor {name!r}. Remove one of them.")
        digests[name] = tensor_digest(tensor)
    return digests


def tensor_digest(tensor: torch.Tensor) -> str:
    """SHA-256 of type, shape and bytes."""
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def combined_tensor_digest(digests: dict[str, str]) -> str:
    """One digest for all of them, whatever files they lie in."""
    return hashlib.sha256("".join(f"{name} {digests[name]}\n" for name in sorted(digests)).encode()).hexdigest()


def _tensors(paths: Iterable[Path]) -> Iterator[tuple[str, torch.Tensor]]:
    for path in paths:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - a safetensors file is no dictionary
                yield name, file.get_tensor(name)


__all__ = [
    "RepeatedTensorError",
    "combined_tensor_digest",
    "tensor_digest",
    "tensor_digests",
    "tensor_digests_of_files",
]
