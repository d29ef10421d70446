"""Bound the time of counted operators from below: by what a GPU computes, what it moves and what its links carry."""

from collections.abc import Mapping
from dataclasses import dataclass

from transformers_llava.training.estimate.gpus import Gpu
from transformers_llava.training.estimate.trace.operators import CLASSES, OperatorClass, OperatorKey, OperatorTotals


# What large products and copies reach of those: measured on one H100 (791 TFLOP/s, 3.0 TB/s), assumed of the others.
ATTAINABLE = 0.8
ATTAINABLE_BYTES = 0.9
_SLOWER_IN_32_BITS = 2  # TF32 against bf16


@dataclass(frozen=True)
class Roofline:
    """Seconds that one step takes at least on one GPU, by class of operator."""

    seconds: Mapping[OperatorClass, float]
    useful_flops: float
    peak_flops: float

    @property
    def computing(self) -> float:
        """One operator after another, without a gap."""
        return sum(self.seconds[kind] for kind in CLASSES if kind != "communication")

    @property
    def total(self) -> float:
        """Communication runs beside the computing, where it is not the longer of the two."""
        return max(self.computing, self.seconds["communication"])

    @property
    def mfu(self) -> float:
        """Useful operations over what the peak would do in that time: no run can reach more."""
        return self.useful_flops / (self.total * self.peak_flops)

    def share(self, kind: OperatorClass) -> float:
        """Of the time that the GPU computes."""
        return self.seconds[kind] / self.computing


def bound_time(
    totals: Mapping[OperatorKey, OperatorTotals], gpu: Gpu, *, num_gpus: int = 1, useful_flops: float | None = None
) -> Roofline:
    """
    Each operator takes the longer of two times: its operations at the attainable rate, or its bytes at that of the
    memory.

    Five numbers: 8 TFLOP of products in 16 bits and 3 GB take 10.1 ms and 1.0 ms on an H100; the bound is 10.1 ms.

    Args:
        totals (`Mapping`): What [`OperatorCounter`] counted on one of the GPUs.
        gpu (`Gpu`): With the rates that its makers state.
        num_gpus (`int`, *optional*, defaults to 1): In one machine; a ring carries `(n - 1) / n` of the bytes.
        useful_flops (`float`, *optional*): Operations that the gradient needs, without what checkpointing repeats; by
            default all that were counted.
    """
    seconds: dict[OperatorClass, float] = dict.fromkeys(CLASSES, 0.0)
    for key, total in totals.items():
        if key.kind == "communication":
            seconds[key.kind] += total.bytes * (num_gpus - 1) / num_gpus / gpu.link_rate
            continue
        rate = gpu.peak * ATTAINABLE / (_SLOWER_IN_32_BITS if key.element_bytes > 2 else 1)
        seconds[key.kind] += max(total.flops / rate, total.bytes / (gpu.memory_rate * ATTAINABLE_BYTES))
    counted = sum(total.flops for total in totals.values())
    return Roofline(seconds, counted if useful_flops is None else useful_flops, gpu.peak)


__all__ = ["ATTAINABLE", "ATTAINABLE_BYTES", "Roofline", "bound_time"]
