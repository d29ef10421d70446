"""Say which LLaVA a recipe builds from a vision tower and a language model; no weight is read.

Both the model that trains (assembly.py) and its estimate (estimate/recipe_shapes.py) ask here.
"""

from typing import Any

from transformers import PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from transformers_llava.modeling.configuration_open_llava import NUM_PREFIX_TOKENS, OpenLlavaConfig
from transformers_llava.training.recipe.configs import ModelConfig
from transformers_llava.training.recipe.recipe_error import RecipeError


_FIELDS = ("projector_type", "vision_feature_layer", "image_aspect_ratio", "image_grid_pinpoints", "patch_merge_type")


def vision_half(config: PreTrainedConfig, model: ModelConfig) -> PreTrainedConfig:
    """
    The configuration of the vision half of a CLIP or SigLIP, which may be that half alone.

    Args:
        config (`PreTrainedConfig`): As it lies in the tower's folder.
        model (`ModelConfig`): Names the tower, for the message.

    Raises:
        `RecipeError`: It has no vision tower that is known.
    """
    vision_config = getattr(config, "vision_config", config)
    if type(vision_config) not in MODEL_MAPPING or vision_config.model_type not in NUM_PREFIX_TOKENS:
        raise RecipeError(
            f"{model.vision_tower_name_or_path!r} is a {config.model_type!r}, which has no vision tower that is known "
            f"here, so its features could not be read. Use one of {', '.join(sorted(NUM_PREFIX_TOKENS))}."
        )
    return vision_config


def config_of_parts(
    model: ModelConfig,
    *,
    vision_config: PreTrainedConfig,
    text_config: PreTrainedConfig,
    image_token_index: int | None = None,
) -> OpenLlavaConfig:
    """
    The configuration of the model: what the recipe leaves open is the default of [`OpenLlavaConfig`].

    Args:
        model (`ModelConfig`): The architecture between the parts.
        vision_config, text_config (`PreTrainedConfig`): The parts.
        image_token_index (`int`, *optional*): Id of `<image>` in the tokenizer; the first id after the vocabulary by
            default.
    """
    given: dict[str, Any] = {name: getattr(model, name) for name in _FIELDS if getattr(model, name) is not None}
    # A tower without a class token has none to leave out.
    strategy = "default" if NUM_PREFIX_TOKENS[vision_config.model_type] else "full"
    return OpenLlavaConfig(
        vision_config=vision_config,
        text_config=text_config,
        image_token_index=image_token_index,
        vision_feature_select_strategy=model.vision_feature_select_strategy or strategy,
        **given,
    )


__all__ = ["config_of_parts", "vision_half"]
