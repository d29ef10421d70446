"""List GPUs with their peak rates and memory, and find the one of this machine in the list."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Gpu:
    """
    A card, as its makers state it.

    Args:
        model (`str`): A word of the name by which the device calls itself: `"H200"` of `"NVIDIA H200"`.
        peak (`float`): Dense bf16 operations per second.
        memory (`float`): Bytes.
        memory_rate (`float`): Bytes per second of that memory.
        link_rate (`float`): Bytes per second to the other cards of a machine, in one direction: NVLink, or PCIe 4.0.
        is_planned (`bool`): Plans say how long a recipe would take on it.
    """

    model: str
    peak: float
    memory: float
    memory_rate: float
    link_rate: float
    is_planned: bool = True

    def __str__(self) -> str:
        return f"{self.model} {self.memory / 1e9:.0f} GB"


GPUS = (
    Gpu("RTX 4090", 165e12, 24e9, 1.01e12, 32e9),
    Gpu("A100", 312e12, 40e9, 1.555e12, 300e9),
    Gpu("A100", 312e12, 80e9, 2.039e12, 300e9),
    Gpu("H100", 989e12, 80e9, 3.35e12, 450e9),
    Gpu("H200", 989e12, 141e9, 4.8e12, 450e9),
    Gpu("L40S", 362e12, 48e9, 864e9, 32e9, is_planned=False),
    Gpu("A6000", 155e12, 48e9, 768e9, 56e9, is_planned=False),
)


def find_gpu(name: str) -> Gpu:
    """
    The card of the list that `str` writes so.

    >>> find_gpu("H200 141 GB").memory
    141000000000.0
    """
    return next(gpu for gpu in GPUS if str(gpu) == name)


def device_peak() -> float | None:
    """Peak of the GPU that this process uses, in operations per second; `None` where there is none in the list."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((gpu.peak for gpu in GPUS if gpu.model in name), None)


__all__ = ["GPUS", "Gpu", "device_peak", "find_gpu"]
