"""Keep the newline vector readable when a device map offloads it.

It is a parameter of the model itself, so no forward of a module of its own would load it.
"""

from typing import Any

import torch
from torch import nn


_NAME = "image_newline"


def keep_newline_in_memory(device_map: dict[str, Any] | None) -> None:
    """Changes the map's own entry for the newline, where there is one: a vector is not worth a file."""
    for name, device in (device_map or {}).items():
        if name.rpartition(".")[2] == _NAME and device == "disk":
            device_map[name] = "cpu"  # type: ignore[index]


def loaded_newline(model: nn.Module) -> torch.Tensor | None:
    """
    `model.image_newline`, from where accelerate keeps it if the module that holds it is offloaded.

    accelerate loads the parameters of a module for its forward, and `generate` encodes images without one.
    """
    newline: torch.Tensor | None = getattr(model, _NAME)
    if newline is None or not newline.is_meta:
        return newline
    weights = getattr(getattr(model, "_hf_hook", None), "weights_map", None)
    return newline if weights is None else weights[_NAME]


__all__ = ["keep_newline_in_memory", "loaded_newline"]
