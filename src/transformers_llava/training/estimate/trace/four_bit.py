"""Stand in for the four-bit layers of bitsandbytes where tensors are fake: the same bytes, kept and moved."""

from typing import Any

import torch
from torch import nn


_WEIGHTS_PER_SCALE = 64  # NF4's block (Dettmers et al. 2023), whose scales are themselves stored in 8 bits ...
_SCALES_PER_SCALE = 256  # ... by blocks of this many, each with one number of 32 bits


class FourBitShapes(nn.Linear):
    """
    A linear layer whose weight takes half a byte, and is expanded whenever it is used: forward and backward.

    Its numbers mean nothing. bitsandbytes packs real weights when they reach a device, so its own layers cannot be
    made of fake tensors.

    Args:
        linear (`nn.Linear`): On the meta device; its bias is kept.
        compute_dtype (`torch.dtype`): What a weight is expanded to.
    """

    def __init__(self, linear: nn.Linear, compute_dtype: torch.dtype) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.compute_dtype = compute_dtype
        num_weights = linear.weight.numel()
        num_scales = -(-num_weights // _WEIGHTS_PER_SCALE)
        device = linear.weight.device
        self.weight = nn.Parameter(
            torch.empty(-(-num_weights // 2), 1, dtype=torch.uint8, device=device), requires_grad=False
        )
        self.bias = linear.bias
        self.register_buffer("scales", torch.empty(num_scales, dtype=torch.uint8, device=device))
        self.register_buffer("scales_of_scales", torch.empty(-(-num_scales // _SCALES_PER_SCALE), device=device))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        states = input.to(self.compute_dtype)
        output = _Expanded.apply(states, self.weight, self.out_features, self.in_features, self.compute_dtype)
        return output if self.bias is None else output + self.bias.to(self.compute_dtype)


class _Expanded(torch.autograd.Function):
    """The product with a weight that is expanded for the forward pass and, anew, for the gradient of its input."""

    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, packed: torch.Tensor, rows: int, columns: int, dtype: torch.dtype
    ) -> torch.Tensor:
        ctx.save_for_backward(packed)
        ctx.shape = (rows, columns, dtype)
        return states @ expand_four_bit(packed, rows, columns, dtype).t()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:  # type: ignore[override]
        (packed,) = ctx.saved_tensors
        return gradient @ expand_four_bit(packed, *ctx.shape), None, None, None, None


@torch.library.custom_op("transformers_llava::expand_four_bit", mutates_args=())
def expand_four_bit(packed: torch.Tensor, rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    """A weight `(rows, columns)` of `packed`, two numbers a byte. On fake tensors alone."""
    raise NotImplementedError("`FourBitShapes` has no numbers; real four-bit layers are bitsandbytes'.")


@expand_four_bit.register_fake
def _(packed: torch.Tensor, rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    return packed.new_empty(rows, columns, dtype=dtype)


def replace_by_four_bit_shapes(language_model: nn.Module, compute_dtype: torch.dtype) -> int:
    """
    Replaces the linear layers that `quantize_language_model` replaces, in place.

    Returns:
        `int`: how many.
    """
    linear = [(name, module) for name, module in language_model.named_modules() if type(module) is nn.Linear]
    for name, module in linear:
        parent_name, _, own_name = name.rpartition(".")
        setattr(language_model.get_submodule(parent_name), own_name, FourBitShapes(module, compute_dtype))
    return len(linear)


__all__ = ["FourBitShapes", "expand_four_bit", "replace_by_four_bit_shapes"]
