"""End a vision tower where its features are read, and read them there."""

from typing import Any

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ..configuration_open_llava import OpenLlavaConfig


def build_vision_tower(config: OpenLlavaConfig) -> tuple[PreTrainedModel, list[str]]:
    """
    Builds the tower of `config.vision_config` and cuts it behind the last feature layer that is read.

    What lies behind that layer (one CLIP layer for -2, the final norm, SigLIP's pooling head) is never used for
    LLaVA's features. Cutting it saves its time and memory, and leaves no parameter without a gradient,
    which DDP would refuse.

    Returns:
        The tower, and regular expressions of checkpoint keys that are not wanted for that reason.
    """
    tower = AutoModel.from_config(config.vision_config)
    body = getattr(tower, "vision_model", tower)
    layers = body.encoder.layers
    depth = len(layers)
    keep = config.num_vision_layers
    body.encoder.layers = layers[:keep]
    body.post_layernorm = nn.Identity()
    prefix = r"(^|\.)vision_tower\.(vision_tower\.)?(vision_model\.)?"
    unwanted = [rf"{prefix}post_layernorm\.", rf"{prefix}head\.", rf"{prefix}embeddings\.position_ids$"]
    unwanted += [rf"{prefix}encoder\.layers\.{i}\." for i in range(keep, depth)]
    if getattr(body, "use_head", False):
        body.use_head = False
        del body.head
    return tower, unwanted


def encode_tiles(
    tower: PreTrainedModel, config: OpenLlavaConfig, pixel_values: torch.Tensor, **kwargs: Any
) -> tuple[torch.Tensor, BaseModelOutputWithPooling]:
    """
    Tower features at the configured layers, and the tower's own output beside them.

    A tower without trainable parameters runs without building a graph, also where gradient checkpointing has made its
    embeddings require gradients: nothing is saved for a backward pass that no parameter waits for.

    Args:
        pixel_values (`torch.Tensor` of shape `(num_tiles, 3, tile_size, tile_size)`)
        kwargs: Of the tower; `output_hidden_states` and `output_attentions` are given back only where asked for.

    Returns:
        Features of shape `(num_tiles, num_patches (+ 1 class token with "full"), vision_hidden_size)`, and the output.
    """
    wants_states = kwargs.pop("output_hidden_states", None)
    wants_states = tower.config.output_hidden_states if wants_states is None else wants_states
    is_trained = pixel_values.requires_grad or any(p.requires_grad for p in tower.parameters())
    indices = config.vision_feature_indices
    with torch.set_grad_enabled(torch.is_grad_enabled() and is_trained):
        pixel_values = pixel_values.to(tower.dtype)
        needs_states = len(indices) > 1 or bool(wants_states)
        outputs = tower(pixel_values, **kwargs, output_hidden_states=needs_states, return_dict=True)
        if len(indices) == 1:
            features = outputs.last_hidden_state
        else:
            hidden_states = outputs.hidden_states
            features = torch.cat([hidden_states[i] for i in indices], dim=-1)
        if config.vision_feature_select_strategy == "default":
            features = features[:, config.num_prefix_tokens :]
    if not wants_states:
        outputs.hidden_states = None
    return features, outputs


def refuse_other_features(config: OpenLlavaConfig, kwargs: dict[str, Any]) -> None:
    """Removes the library's arguments that choose features; they must say what the tower was cut for."""
    for name in ("vision_feature_layer", "vision_feature_select_strategy"):
        value = kwargs.pop(name, None)
        if value is not None and value != getattr(config, name):
            raise ValueError(
                f"{name}={value!r} was given, but this model was built for {getattr(config, name)!r}: its tower ends "
                "there and its projector was trained on it. Set it in the configuration before building the model."
            )


__all__ = ["build_vision_tower", "encode_tiles", "refuse_other_features"]
