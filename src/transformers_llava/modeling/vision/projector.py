"""Project vision features to embeddings: every projector of the original code bases, under one set of names."""

import torch
from torch import nn
from transformers.activations import ACT2FN

from ..configuration_open_llava import PROJECTOR_PATTERN, OpenLlavaConfig


class OpenLlavaMultiModalProjector(nn.Module):
    """
    Maps `(num_tiles, num_patches, vision_hidden_size)` to `(num_tiles, num_tokens, hidden_size)`.

    `linear` is `linear_1`; `mlp{N}x_gelu` is `linear_1 ... linear_N` with the activation between them;
    `mlp{N}x_res{M}x_gelu` adds M residual blocks; `pooler` halves the grid by a strided convolution; `identity` has no
    parameters. Source: `llava/model/multimodal_projector/builder.py` of LLaVA and LLaVA-NeXT.
    """

    def __init__(self, config: OpenLlavaConfig) -> None:
        super().__init__()
        num_in, num_out = config.vision_hidden_size, config.text_config.hidden_size
        bias = config.multimodal_projector_bias
        self.kind = config.projector_type
        self.num_layers, num_residual_blocks = projector_depth(self.kind)
        self.act = ACT2FN[config.projector_hidden_act]
        self.linear_1: nn.Module  # and `linear_2`, ...: as many as the type says
        self.conv_pool: nn.Module
        if self.kind == "pooler":
            self.conv_pool = nn.Conv2d(num_in, num_out, kernel_size=2, stride=2)
        for i in range(1, self.num_layers + 1):
            reads_tower = i == 1 and self.kind != "pooler"
            setattr(self, f"linear_{i}", nn.Linear(num_in if reads_tower else num_out, num_out, bias=bias))
        if num_residual_blocks:
            self.residual_blocks = nn.ModuleList(_ResidualBlock(num_out, self.act) for _ in range(num_residual_blocks))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if self.kind == "identity":
            return features
        features = self._in_own_precision(features)
        if self.kind == "pooler":
            return self.linear_1(self.act(self._pool(features)))
        features = self.linear_1(features)
        for i in range(2, self.num_layers + 1):
            features = getattr(self, f"linear_{i}")(self.act(features))
        for block in getattr(self, "residual_blocks", ()):
            features = block(features)
        return features

    def _in_own_precision(self, features: torch.Tensor) -> torch.Tensor:
        """A frozen bf16 tower may feed an fp32 projector; quantised weights do not say what they work in."""
        dtype = next((parameter.dtype for parameter in self.parameters()), None)  # dynamic quantization leaves none
        keeps = dtype is None or not dtype.is_floating_point or dtype.itemsize < 2
        return features if keeps else features.to(dtype)

    def _pool(self, features: torch.Tensor) -> torch.Tensor:
        num_tiles, num_patches, channels = features.shape
        side = int(num_patches**0.5)
        grid = features.transpose(1, 2).reshape(num_tiles, channels, side, side)
        return self.conv_pool(grid).flatten(2).transpose(1, 2)


class _ResidualBlock(nn.Module):
    """`y + mlp(y)` with `y = norm(x)`: the sum takes the *normalised* input, as LLaVA-NeXT's SimpleResBlock does."""

    def __init__(self, channels: int, act: nn.Module) -> None:
        super().__init__()
        self.pre_norm = nn.LayerNorm(channels)
        self.linear_1 = nn.Linear(channels, channels)
        self.linear_2 = nn.Linear(channels, channels)
        self.act = act

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        features = self.pre_norm(features)
        return features + self.linear_2(self.act(self.linear_1(features)))


def projector_depth(projector_type: str) -> tuple[int, int]:
    """`(linear layers, residual blocks)` of a projector type."""
    match = PROJECTOR_PATTERN.fullmatch(projector_type)
    if match is None:
        raise ValueError(f"projector_type={projector_type!r} is not known.")
    plain, residual, blocks = match.groups()
    if plain or residual:
        return int(plain or residual), int(blocks or 0)
    return (0, 0) if projector_type == "identity" else (1, 0)


__all__ = ["OpenLlavaMultiModalProjector", "projector_depth"]
