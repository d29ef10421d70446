"""Export our checkpoint to the built-in `llava` or `llava_next`, for plain transformers, vLLM, MLX and llama.cpp.

The folder has the key names of transformers 4.3x to 4.51 (`language_model.model.*`, `vision_tower.vision_model.*`),
because each of those readers knows them. Its JSON files are written for transformers 4.57 and 5, see export_files.py;
`make old-transformers` shows it. What the built-in classes cannot express is refused.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import LlavaConfig, LlavaNextConfig, LlavaNextProcessor, LlavaProcessor
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from transformers_llava.conversion.configs.builtin import padded_rows
from transformers_llava.conversion.configs.pinpoints import our_pinpoints_to_hf
from transformers_llava.conversion.export_files import is_known_to_older_readers
from transformers_llava.conversion.weights.key_check import empty_model
from transformers_llava.conversion.weights.key_names import CLASSIC
from transformers_llava.conversion.weights.lazy_tensors import LazyTensor, State, fit_rows
from transformers_llava.modeling.configuration_open_llava import OpenLlavaConfig
from transformers_llava.modeling.processing_open_llava import OpenLlavaProcessor


_TABLES = ("model.language_model.embed_tokens.weight", "lm_head.weight")
# Read back by `configs.layouts.convert_config`: what the built-in configuration has no field for.
KEPT_FIELDS = ("image_aspect_ratio", "image_grid_pinpoints", "max_sequence_length", "original_model_type")


def builtin_type(config: OpenLlavaConfig) -> str:
    """
    Which built-in class expresses this checkpoint: `llava` or `llava_next`.

    Raises:
        ValueError: With every reason why neither does.
    """
    reasons = []
    if config.projector_type != "mlp2x_gelu":
        reasons.append(f"their projector has two layers, this one is {config.projector_type!r}")
    tiled = config.image_aspect_ratio.startswith("anyres")
    if config.image_aspect_ratio.startswith("anyres_max"):
        reasons.append(f"they do not scale feature maps down as image_aspect_ratio={config.image_aspect_ratio!r} does")
    if tiled and config.patch_merge_type != "spatial_unpad":
        reasons.append(
            f"llava_next only merges tiles as 'spatial_unpad', this checkpoint as {config.patch_merge_type!r}"
        )
    text = config.text_config
    if _TABLES[0] not in empty_model(config).state_dict():
        reasons.append(f"their key layout has no place for a {text.model_type!r} language model")
    for name in ("final_logit_softcapping", "logit_scale"):
        if getattr(text, name, None) is not None:
            reasons.append(f"they ignore {name}={getattr(text, name)} of a {text.model_type!r} language model")
    if reasons:
        raise ValueError(
            f"The built-in llava and llava_next cannot express this checkpoint: {'; '.join(reasons)}. Keep it as "
            "open_llava, which transformers loads with this package installed."
        )
    return "llava_next" if tiled else "llava"


def builtin_config(config: OpenLlavaConfig, dtype: torch.dtype | None = None) -> LlavaConfig | LlavaNextConfig:
    """The configuration of [`builtin_type`]; what it has no field for is kept under `open_llava`, for the way back."""
    kind = builtin_type(config)
    text = _sub_config(config.text_config)
    kept = {name: getattr(config, name) for name in KEPT_FIELDS}
    if config.image_token_index >= text["vocab_size"]:
        kept["vocab_size"] = text["vocab_size"]
        text["vocab_size"] = padded_rows(config.image_token_id)
    vision = _sub_config(config.vision_config)
    if vision["model_type"].startswith("siglip"):
        vision["vision_use_head"] = False
    fields = {
        "vision_config": vision,
        "text_config": text,
        "image_token_index": config.image_token_index,
        "projector_hidden_act": config.projector_hidden_act,
        "multimodal_projector_bias": config.multimodal_projector_bias,
        "vision_feature_layer": config.vision_feature_layer,
        "vision_feature_select_strategy": builtin_strategy(config),
        "tie_word_embeddings": config.tie_word_embeddings,
        "image_seq_length": config.tiling_rule().tokens_per_tile,
        "open_llava": kept,
    }
    if kind == "llava_next":
        pinpoints = our_pinpoints_to_hf(config.image_grid_pinpoints or ())
        exported: LlavaConfig | LlavaNextConfig = LlavaNextConfig(**fields, image_grid_pinpoints=pinpoints)
        exported.architectures = ["LlavaNextForConditionalGeneration"]
    else:
        exported = LlavaConfig(**fields)
        exported.architectures = ["LlavaForConditionalGeneration"]
    exported.dtype = dtype
    return exported


def builtin_state(state: State, config: OpenLlavaConfig) -> State:
    """The weights under the classic names, with the rows and layers that the built-in class has beyond ours."""
    exported: State = {}
    for key, tensor in [*state.items(), *_unread_layers(state, config).items()]:
        if key in _TABLES and config.image_token_index >= config.text_config.vocab_size:
            tensor = fit_rows(tensor, padded_rows(config.image_token_id))
        name = CLASSIC.from_ours(key)
        assert name is not None, f"{key} has no name in the classic layout"
        exported[name] = tensor
    return exported


def save_builtin_processor(processor: OpenLlavaProcessor, config: OpenLlavaConfig, folder: str | Path) -> None:
    """Writes the built-in processor with the same pixels, tokens and template."""
    kind = builtin_type(config)
    images = processor.image_processor
    settings = {
        name: getattr(images, name)
        for name in (
            "do_resize",
            "resample",
            "do_rescale",
            "rescale_factor",
            "do_normalize",
            "image_mean",
            "image_std",
        )
    }
    side = images.tile_size
    settings |= {"do_convert_rgb": True, "do_center_crop": bool(images.do_center_crop), "size": dict(images.size)}
    settings["crop_size"] = dict(images.crop_size) if images.crop_size else {"height": side, "width": side}
    shared = {
        "tokenizer": processor.tokenizer,
        "chat_template": processor.chat_template,
        "patch_size": config.vision_config.patch_size,
        "vision_feature_select_strategy": builtin_strategy(config),
        "num_additional_image_tokens": config.num_prefix_tokens,
        "image_token": processor.image_token,
    }
    if kind == "llava_next":
        settings["image_grid_pinpoints"] = our_pinpoints_to_hf(config.image_grid_pinpoints or ())
        exported = LlavaNextProcessor(image_processor=LlavaNextImageProcessorPil(**settings), **shared)
    else:
        settings["do_pad"] = config.image_aspect_ratio == "pad"
        exported = LlavaProcessor(image_processor=LlavaImageProcessorPil(**settings), **shared)
    exported.save_pretrained(folder)
    exported.image_processor.save_pretrained(folder)  # preprocessor_config.json, which older readers ask for


def builtin_differences(config: OpenLlavaConfig) -> list[str]:
    """What a user should know about the built-in class's results, which the original does otherwise."""
    notes = []
    if builtin_type(config) == "llava_next":
        notes.append(
            "llava_next rounds where the original truncates when it unpads: a few image sizes get one row or column "
            "more"
        )
        notes.append(
            "image_grid_pinpoints are written as (height, width), as llava_next reads them, in the original's order"
        )
    if config.max_sequence_length:
        notes.append(
            f"the original cuts sequences to {config.max_sequence_length} positions, images included; built-in "
            "classes do not"
        )
    text = config.text_config
    if text.model_type == "gemma":
        notes.append(
            "transformers 4 multiplies image features of a gemma by sqrt(hidden_size) once more, so this folder needs "
            "transformers 5"
        )
    if not is_known_to_older_readers(text.to_dict()):
        notes.append(
            f"transformers 4 reads one rope_theta for all layers, this {text.model_type} has several, so this folder "
            "needs transformers 5"
        )
    if config.image_token_index >= config.text_config.vocab_size:
        notes.append(
            "the image token has no row in the original; embeddings and head are filled up to "
            f"{padded_rows(config.image_token_id)} rows with their mean"
        )
    return notes


def _unread_layers(state: State, config: OpenLlavaConfig) -> State:
    """
    The tower's layers behind the one that is read, which the built-in class runs and ignores, and its last norm.

    Ours has none of them; copies of the last layer that it has take their places.
    """
    prefix = "model.vision_tower.encoder.layers."
    last = config.num_vision_layers - 1
    added: State = {}
    for number in range(last + 1, config.vision_config.num_hidden_layers):
        for key, tensor in state.items():
            if key.startswith(f"{prefix}{last}."):
                added[key.replace(f"{prefix}{last}.", f"{prefix}{number}.", 1)] = tensor
    norm = state[f"{prefix}{last}.layer_norm1.weight"]
    added["model.vision_tower.post_layernorm.weight"] = LazyTensor.of(torch.ones(norm.shape, dtype=norm.dtype))
    added["model.vision_tower.post_layernorm.bias"] = LazyTensor.of(torch.zeros(norm.shape, dtype=norm.dtype))
    return added


def _sub_config(config: Any) -> dict[str, Any]:
    values = config.to_dict()
    for name in ("dtype", "torch_dtype", "_name_or_path", "architectures", "transformers_version"):
        values.pop(name, None)
    return values


def builtin_strategy(config: OpenLlavaConfig) -> str:
    """The built-in's word for the same patches: its `default` drops the first token of any tower."""
    return config.vision_feature_select_strategy if config.num_prefix_tokens else "full"


__all__ = [
    "KEPT_FIELDS",
    "builtin_config",
    "builtin_differences",
    "builtin_state",
    "builtin_type",
    "save_builtin_processor",
]
