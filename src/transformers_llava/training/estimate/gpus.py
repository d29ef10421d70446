"""List GPUs with their peak rates and memory."""

import torch


# Dense bf16 peak in operations per second, and memory in bytes, as the makers state them.
GPUS = {
    "RTX 4090 24 GB": (165e12, 24e9),
    "A100 40 GB": (312e12, 40e9),
    "A100 80 GB": (312e12, 80e9),
    "H100 80 GB": (989e12, 80e9),
    "H200 141 GB": (989e12, 141e9),
}


# Dense bf16 peak in operations per second, by a word of the device's name, as the makers state them.
_PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12, "A6000": 155e12}


def device_peak() -> float | None:
    """The peak of the GPU that this process uses, if its makers' figure is known here."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((peak for word, peak in _PEAKS.items() if word in name), None)


__all__ = ["GPUS", "device_peak"]
