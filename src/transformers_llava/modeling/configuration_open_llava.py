"""Nest vision tower, projector and language model in one configuration that says how images become tokens."""
# No `from __future__ import annotations` here: it would silently switch off the validation of `@strict`.

import re
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig
from transformers.configuration_utils import PreTrainedConfig, SubConfigSpec

from .images.tiling import TilingRule


PROJECTOR_PATTERN = re.compile(r"linear|identity|pooler|mlp([1-9]\d*)x_gelu|mlp([1-9]\d*)x_res([1-9]\d*)x_gelu")

# Tokens that a tower puts before its patches. A tower that is not listed is refused rather than guessed at.
NUM_PREFIX_TOKENS = {"clip_vision_model": 1, "siglip_vision_model": 0}


@strict
class OpenLlavaConfig(PreTrainedConfig):
    r"""
    Configuration of [`OpenLlavaForConditionalGeneration`].

    Args:
        vision_config (`PreTrainedConfig` or `dict`, *optional*): Vision tower; CLIP ViT-L/14 at 336 pixels by default.
        text_config (`PreTrainedConfig` or `dict`, *optional*): Decoder; defaults to Llama.
        image_token_index (`int`, *optional*): Id that marks an image's positions in `input_ids`, also called
            `image_token_id`. Defaults to the first id after the vocabulary: it needs no row in the embedding table.
        projector_type (`str`, *optional*, defaults to `"mlp2x_gelu"`): `linear`, `identity`, `mlp{N}x_gelu`,
            `mlp{N}x_res{M}x_gelu` or `pooler`.
        projector_hidden_act (`str`, *optional*, defaults to `"gelu"`): Activation between its layers (the exact GELU).
        multimodal_projector_bias (`bool`, *optional*, defaults to `True`): Whether its layers have a bias.
        vision_feature_layer (`int` or `list[int]`, *optional*, defaults to -2): Which of the tower's `hidden_states`
            the projector reads; several are concatenated along the channels. The tower is cut behind the last one.
        vision_feature_select_strategy (`str`, *optional*, defaults to `"default"`): `default` takes the patches,
            `full` also the class token of towers that have one.
        image_aspect_ratio (`str`, *optional*, defaults to `"square"`): How an image meets the square tower. `square`:
            centre crop (CLIP) or squash (SigLIP); `pad`: padded with the mean colour; `anyres`, `anyres_max_N`: tiled.
        image_grid_pinpoints (`list[list[int]]`, *optional*): Canvases `[width, height]` for `anyres*`, in order.
        patch_merge_type (`str`, *optional*, defaults to `"flat"`): How tiles are joined: `flat`, `spatial`,
            `spatial_unpad`. The learnt newline vector exists exactly with `spatial_unpad`.
        vision_tower_name_or_path (`str`, *optional*): Where the tower's weights come from if the checkpoint has none.
        max_sequence_length (`int`, *optional*): Positions, image included, that training kept of a sample
            (`tokenizer_model_max_length` of the original).
        original_model_type (`str`, *optional*): `model_type` of the checkpoint that this one was read from.
        tie_word_embeddings (`bool`, *optional*, defaults to `False`): Whether `lm_head` is the embedding table.

    Example:

    ```python
    >>> from transformers import CLIPVisionConfig, LlamaConfig
    >>> from transformers_llava import OpenLlavaConfig

    >>> tower = CLIPVisionConfig(image_size=336, patch_size=14)
    >>> config = OpenLlavaConfig(vision_config=tower, text_config=LlamaConfig())
    >>> config.image_token_id, config.tiling_rule().tokens_per_tile
    (32000, 576)
    ```
    """

    model_type = "open_llava"
    attribute_map = {"image_token_id": "image_token_index"}
    keys_to_ignore_at_inference = ["past_key_values", "image_hidden_states"]  # by Trainer, which keeps what is left
    sub_configs_defaults = {
        "vision_config": SubConfigSpec(
            config_class=AutoConfig,
            model_type="clip_vision_model",
            init_kwargs={
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "image_size": 336,
                "patch_size": 14,
                "projection_dim": 768,
            },
        ),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
    }
    # Contract: each takes (configuration dictionary, folder or Hub id or None) and returns a dictionary in our layout,
    # or the same one if it does not know the layout. `conversion.auto_classes.register_formats` adds two layouts.
    dict_normalizers: ClassVar[list[Callable[[dict[str, Any], str | None], dict[str, Any]]]] = []

    vision_config: Any = None  # a `PreTrainedConfig` once built
    text_config: Any = None
    image_token_index: int | None = None
    projector_type: str = "mlp2x_gelu"
    projector_hidden_act: str = "gelu"
    multimodal_projector_bias: bool = True
    vision_feature_layer: int | list[int] = -2
    vision_feature_select_strategy: Literal["default", "full"] = "default"
    image_aspect_ratio: str = "square"
    image_grid_pinpoints: list | None = None
    patch_merge_type: str = "flat"
    vision_tower_name_or_path: str | None = None
    max_sequence_length: int | None = None
    original_model_type: str | None = None
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        kwargs.pop("model_type", None)  # what the file says must not shadow the class attribute
        kwargs.pop("auto_map", None)  # belongs to the folder it came from; saved elsewhere it would point to no file
        super().__post_init__(**kwargs)
        if getattr(self.text_config, "tie_word_embeddings", False):
            self.tie_word_embeddings = True
        if self.image_token_index is None:
            self.image_token_index = self.text_config.vocab_size
        self._check()

    def _check(self) -> None:
        if not PROJECTOR_PATTERN.fullmatch(self.projector_type):
            raise ValueError(
                f"projector_type={self.projector_type!r} is not known, so no projector could be built. Use 'linear', "
                "'identity', 'mlpNx_gelu' (such as mlp2x_gelu), 'mlpNx_resMx_gelu' or 'pooler'."
            )
        if self.vision_config.model_type not in NUM_PREFIX_TOKENS:
            raise ValueError(
                f"vision_config.model_type={self.vision_config.model_type!r} is not a known vision tower, so "
                f"its class tokens could not be told from its patches. Known: {', '.join(sorted(NUM_PREFIX_TOKENS))}."
            )
        depth = self.vision_config.num_hidden_layers
        for layer in self.vision_feature_layers:
            if not -depth - 1 <= layer <= depth:
                raise ValueError(
                    f"vision_feature_layer={layer} does not exist: the tower has {depth} layers, so its hidden states "
                    f"are numbered 0 to {depth}, or {-depth - 1} to -1 from the end."
                )
        if self.projector_type == "identity" and self.vision_hidden_size != self.text_config.hidden_size:
            raise ValueError(
                "projector_type='identity' passes features on unchanged, but the tower gives "
                f"{self.vision_hidden_size} channels and the language model takes {self.text_config.hidden_size}. "
                "Use 'linear' or 'mlp2x_gelu'."
            )
        if (
            self.projector_type == "pooler"
            and self.num_prefix_tokens
            and self.vision_feature_select_strategy == "full"
        ):
            raise ValueError(
                "projector_type='pooler' halves the grid of patches, and the class token that "
                "vision_feature_select_strategy='full' keeps has no place in it. Use 'default'."
            )
        self.tiling_rule()  # raises on what cannot be laid out

    @property
    def vision_feature_layers(self) -> list[int]:
        """The layers that the projector reads, as they are configured."""
        layer = self.vision_feature_layer
        return [layer] if isinstance(layer, int) else list(layer)

    @property
    def vision_feature_indices(self) -> list[int]:
        """
        The same counted from the front: of 24 layers there are 25 hidden states, so -2 is number 23.

        Number 0 is the embedding, number 24 what the last layer gives.
        """
        num_states = self.vision_config.num_hidden_layers + 1
        return [layer if layer >= 0 else num_states + layer for layer in self.vision_feature_layers]

    @property
    def num_vision_layers(self) -> int:
        """Layers of the tower that run: those up to the last one that is read."""
        return max(self.vision_feature_indices)

    @property
    def vision_hidden_size(self) -> int:
        """Channels that the projector reads."""
        return self.vision_config.hidden_size * len(self.vision_feature_layers)

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens that the tower puts before the patches, whether they are used or not."""
        return NUM_PREFIX_TOKENS[self.vision_config.model_type]

    @property
    def has_image_newline(self) -> bool:
        return self.patch_merge_type == "spatial_unpad"

    def tiling_rule(self) -> TilingRule:
        """The rule by which processor, length counting and model lay out this checkpoint's images."""
        num_patches_per_side = self.vision_config.image_size // self.vision_config.patch_size
        if self.projector_type == "pooler":
            num_patches_per_side //= 2
        keeps_prefix = self.vision_feature_select_strategy == "full"
        return TilingRule(
            tile_size=self.vision_config.image_size,
            num_patches_per_side=num_patches_per_side,
            num_prefix_tokens=self.num_prefix_tokens if keeps_prefix else 0,
            image_aspect_ratio=self.image_aspect_ratio,
            patch_merge_type=self.patch_merge_type,
            grid_pinpoints=tuple((int(w), int(h)) for w, h in self.image_grid_pinpoints or ()),
        )

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: Any, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        return cls._normalize(config_dict, str(pretrained_model_name_or_path)), kwargs

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> "OpenLlavaConfig":
        # AutoConfig passes where it read from. `_name_or_path` in the file is the model that training started from.
        source = kwargs.get("name_or_path")
        return super().from_dict(cls._normalize(config_dict, None if source is None else str(source)), **kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoConfig") -> None:
        """Does nothing: the class belongs to an installed package, and a copy of this one file could not run alone."""

    @classmethod
    def _normalize(cls, config_dict: dict[str, Any], source: str | None) -> dict[str, Any]:
        for normalize in cls.dict_normalizers:
            config_dict = normalize(config_dict, source)
        return config_dict


__all__ = ["OpenLlavaConfig"]
