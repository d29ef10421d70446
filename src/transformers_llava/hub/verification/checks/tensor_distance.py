"""Measure how far the weights of two folders are apart."""

import math
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from transformers_llava.artifacts.digests.tensor_digests import tensor_digest


@dataclass(frozen=True)
class WeightDistance:
    """
    How far two sets of weights are apart.

    Args:
        only_first, only_second (`list[str]`): Names that one of the two has alone.
        different (`list[str]`): Tensors with another shape, type or bits.
        relative (`float`): ||a - b|| / ||a|| over the tensors of `different` that have the same shape, in float64:
            frozen ones, which are identical whatever was trained, would make every distance small.
        num_compared (`int`): Tensors that both have.
        other_form (`list[str]`): Of `different` those with another shape or type, whose distance says nothing.
        not_finite (`list[str]`): Tensors in which one of the two has NaN or infinity.
    """

    only_first: list[str]
    only_second: list[str]
    different: list[str]
    relative: float
    num_compared: int = 0
    other_form: list[str] = field(default_factory=list)
    not_finite: list[str] = field(default_factory=list)

    @property
    def identical(self) -> bool:
        """Same names, same types, same bits; of at least one tensor, and of numbers alone."""
        return self.num_compared > 0 and not (self.only_first or self.only_second or self.different or self.not_finite)

    def is_within(self, tolerance: float) -> bool:
        """Same names, types and shapes, numbers alone, and a distance of at most `tolerance`."""
        whole = not (self.only_first or self.only_second or self.other_form or self.not_finite)
        return self.num_compared > 0 and whole and math.isfinite(self.relative) and self.relative <= tolerance

    @property
    def faults(self) -> list[str]:
        """What no tolerance allows, in words."""
        named = {
            "only the published weights have": self.only_first,
            "only the retrained weights have": self.only_second,
            "of another shape or type": self.other_form,
            "with NaN or infinity": self.not_finite,
        }
        faults = [f"{what}: {len(names)}, such as {names[0]}" for what, names in named.items() if names]
        return [*faults, *([] if self.num_compared else ["no tensor is in both"])]


def weight_distance(first: str | Path, second: str | Path) -> WeightDistance:
    """Compares the safetensors files of two folders, one tensor at a time."""
    with ExitStack() as stack:
        ours, theirs = (_open(Path(folder), stack) for folder in (first, second))
        both = sorted(ours.keys() & theirs.keys())
        different, other_form, not_finite, squares, difference = [], [], [], 0.0, 0.0
        for name in both:
            a, b = ours[name].get_tensor(name), theirs[name].get_tensor(name)
            same_form = a.dtype == b.dtype and a.shape == b.shape
            if not same_form:
                other_form.append(name)
            is_different = not same_form or tensor_digest(a) != tensor_digest(b)
            if is_different:
                different.append(name)
            if not (_is_finite(a) and _is_finite(b)):
                not_finite.append(name)
            elif is_different and a.shape == b.shape:
                squares += float(a.double().pow(2).sum())
                difference += float((a.double() - b.double()).pow(2).sum())
        return WeightDistance(
            sorted(ours.keys() - theirs.keys()),
            sorted(theirs.keys() - ours.keys()),
            different,
            _relative(difference, squares),
            len(both),
            other_form,
            not_finite,
        )


def _relative(difference: float, squares: float) -> float:
    if difference == 0.0:
        return 0.0
    return (difference / squares) ** 0.5 if squares else math.inf


def _is_finite(tensor: torch.Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor.double()).all())


def _open(folder: Path, stack: ExitStack) -> dict[str, Any]:
    files = [stack.enter_context(safe_open(path, "pt")) for path in sorted(folder.glob("*.safetensors"))]
    return {name: file for file in files for name in file.keys()}  # noqa: SIM118


__all__ = ["WeightDistance", "weight_distance"]
