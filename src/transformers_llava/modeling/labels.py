"""Keep image positions out of the labels, whoever computes the loss.

`image_token_id` may have no row in the head, so a loss that counts image positions has no lower bound: the target
logit does not exist and every other logit is driven down. The model's own `forward` masks them, but two paths pass it
by:

- a forward that a trainer puts on the instance, such as TRL's fused head, which calls decoder and `lm_head` itself:
  [`masking_forward`];
- whatever reads the labels of a batch before the model does, such as `Trainer`, which counts them for the divisor of
  the loss, or its label smoothing: [`OpenLlavaBatchFeature`].
"""

from collections.abc import Callable
from functools import wraps
from types import MethodType
from typing import Any

import torch
from transformers.image_processing_utils import BatchFeature


_LABELS = ("labels", "shift_labels")
_MARK = "_masks_image_positions"


def mask_image_positions(labels: torch.Tensor, image_token_id: int) -> torch.Tensor:
    """`labels` with -100, which no loss counts, at image positions."""
    return labels.masked_fill(labels == image_token_id, -100)


def masking_forward(forward: Any) -> Any:
    """
    A bound forward of a model that masks the labels it is called with.

    Contract: what is not a bound method is returned as it is. Hooks of accelerate are such, and they call the forward
    that they replace. The model is an argument and not part of a closure, so that a copy of a model stays a copy.
    """
    if not isinstance(forward, MethodType) or getattr(forward, _MARK, False):
        return forward
    function: Callable[..., Any] = forward.__func__

    @wraps(function)
    def masked(self: Any, *args: Any, **kwargs: Any) -> Any:
        for name in _LABELS:
            if isinstance(kwargs.get(name), torch.Tensor):
                kwargs[name] = mask_image_positions(kwargs[name], self.config.image_token_id)
        return function(self, *args, **kwargs)

    setattr(masked, _MARK, True)
    return MethodType(masked, forward.__self__)


class OpenLlavaBatchFeature(BatchFeature):
    """
    What the processor returns: labels that are put into it never count an image position.

    Stock collators and most scripts write `batch["labels"] = batch["input_ids"].clone()`.
    """

    def __init__(self, data: Any = None, image_token_id: int | None = None, **kwargs: Any) -> None:
        self.image_token_id = image_token_id
        super().__init__(data, **kwargs)

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "labels" and self.image_token_id is not None and isinstance(value, torch.Tensor):
            value = mask_image_positions(value, self.image_token_id)
        super().__setitem__(key, value)

    def __getstate__(self) -> dict[str, Any]:
        return {"data": self.data, "image_token_id": self.image_token_id}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.image_token_id = state.get("image_token_id")


__all__ = ["OpenLlavaBatchFeature", "mask_image_positions", "masking_forward"]
