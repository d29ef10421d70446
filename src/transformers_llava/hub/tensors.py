"""Weight files to one digest per tensor, whatever their sharding, and two folders of weights to their distance."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open


@dataclass(frozen=True)
class WeightDistance:
    """
    How far two sets of weights are apart.

    Args:
        only_first, only_second (`list[str]`): Names that one of the two has alone.
        different (`list[str]`): Tensors with another shape, type or bits.
        relative (`float`): ||a - b|| / ||a|| over all tensors that both have with the same shape, in float64.
    """

    only_first: list[str]
    only_second: list[str]
    different: list[str]
    relative: float

    @property
    def identical(self) -> bool:
        """Same names, same types, same bits."""
        return not (self.only_first or self.only_second or self.different)


def tensor_digests(folder: str | Path) -> dict[str, str]:
    """SHA-256 of type, shape and bytes of every tensor in the safetensors files of a folder, by name."""
    return {name: _digest(tensor) for name, tensor in _tensors(Path(folder))}


def combined_tensor_digest(digests: dict[str, str]) -> str:
    """One digest for all of them, whatever files they lie in."""
    return hashlib.sha256("".join(f"{name} {digests[name]}\n" for name in sorted(digests)).encode()).hexdigest()


def weight_distance(first: str | Path, second: str | Path) -> WeightDistance:
    """Compares the safetensors files of two folders, one tensor at a time."""
    with ExitStack() as stack:
        ours, theirs = (_open(Path(folder), stack) for folder in (first, second))
        both = sorted(ours.keys() & theirs.keys())
        different, squares, difference = [], 0.0, 0.0
        for name in both:
            a, b = ours[name].get_tensor(name), theirs[name].get_tensor(name)
            if a.dtype != b.dtype or a.shape != b.shape or _digest(a) != _digest(b):
                different.append(name)
            if a.shape == b.shape:
                squares += float(a.double().pow(2).sum())
                difference += float((a.double() - b.double()).pow(2).sum())
        relative = (difference / squares) ** 0.5 if squares else 0.0
        return WeightDistance(
            sorted(ours.keys() - theirs.keys()), sorted(theirs.keys() - ours.keys()), different, relative
        )


def _tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - a safetensors file is no dictionary
                yield name, file.get_tensor(name)


def _open(folder: Path, stack: ExitStack) -> dict:
    files = [stack.enter_context(safe_open(path, "pt")) for path in sorted(folder.glob("*.safetensors"))]
    return {name: file for file in files for name in file.keys()}  # noqa: SIM118


def _digest(tensor: torch.Tensor) -> str:
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


__all__ = ["WeightDistance", "combined_tensor_digest", "tensor_digests", "weight_distance"]
