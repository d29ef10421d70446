"""Convert a flat configuration of the original to ours, field by field."""

from pathlib import Path
from typing import Any

from transformers_llava.conversion.configs.pinpoints import parse_pinpoints
from transformers_llava.conversion.configs.text import split_text_config, text_model_type
from transformers_llava.conversion.configs.tower_lookup import TowerNotFoundError, resolve_tower
from transformers_llava.conversion.conversion_report import ConfigReport


# Fields of flat configurations that no reader needs. Prefixes end with `*`.
DROPPED: dict[str, str] = {
    "transformers_version": "is written anew",
    "_name_or_path": "the model that training started from; never read",
    "use_mm_proj": "written by the original, read only by its v0 code",
    "mm_hidden_size": "follows from the vision tower",
    "tokenizer_padding_side": "a setting of training, whose collators choose their side; processors pad left",
    "image_crop_resolution": "only for image_aspect_ratio='crop_split', which no published checkpoint uses",
    "image_split_resolution": "only for image_aspect_ratio='crop_split', which no published checkpoint uses",
    "vision_tower_pretrained": "only for towers outside transformers",
    "delay_load": "decides when the original reads the tower, not what it reads",
    "mm_resampler_type": "the original builds the resampler but never calls it",
    "mm_mask_drop_*": "settings of a resampler that is never called",
    "mm_spatial_pool_*": "settings of a resampler that is never called, and of video",
    "mm_perceiver_*": "settings of a resampler that is never called",
    "mm_qformer_*": "settings of a resampler that is never called",
    "mm_newline_position": "only for video",
    "add_time_instruction": "only for video",
    "force_sample": "only for video",
    "add_faster_video": "only for video",
    "faster_token_stride": "only for video",
    "use_pos_skipping": "only in training",
    "pos_skipping_range": "only in training",
    "tune_mm_mlp_adapter": "a switch of training",
    "tune_mm_vision_resampler": "a switch of training",
    "freeze_mm_mlp_adapter": "a switch of training",
    "freeze_mm_vision_resampler": "a switch of training",
    "unfreeze_mm_vision_tower": "a switch of training; it also says whose tower weights count",
    "mm_tunable_parts": "a switch of training; it also says whose tower weights count",
    "mm_projector_lr": "a learning rate",
    "mm_vision_tower_lr": "a learning rate",
    "s2": "switched off",
    "s2_scales": "S2 is switched off",
    "image_token_index": "the tokenizer decides: the original has no such token",
}
# Fields that take effect outside the configuration, or only by choosing something in it.
ELSEWHERE = {
    "architectures": "text_config.model_type",
    "mm_use_im_start_end": "tokenizer, chat template",
    "mm_use_im_patch_token": "tokenizer",
}
SELECT_FEATURES = {"patch": "default", "cls_patch": "full"}


def convert_original(
    source: dict[str, Any],
    folder: str | Path | None,
    vision_tower: str | Path | None,
    num_tokens: int | None,
    image_token_index: int | None,
) -> tuple[dict[str, Any], ConfigReport]:
    report = ConfigReport("original")
    target: dict[str, Any] = {"model_type": "open_llava"}

    def put(name: str, value: Any, key: str, default_reason: str) -> None:
        """`value` under `name`; MAPPED if the source has `key`, else DEFAULTED."""
        target[name] = value
        if key in source:
            report.add("MAPPED", key, name, value)
        else:
            report.add("DEFAULTED", "", name, value, default_reason)
        taken.add(key)

    taken = {"model_type"}
    text_type = text_model_type(source)
    put("original_model_type", source.get("model_type"), "model_type", "")
    _refuse_s2(source)

    tower_name = str(vision_tower or source.get("mm_vision_tower") or source.get("vision_tower") or "")
    tower = resolve_tower(tower_name, folder)
    if tower.config is None:
        raise TowerNotFoundError.for_config(tower_name, folder)
    vision_config = dict(tower.config)
    # The report says what the file says: where a folder lies on this machine tells others nothing.
    target["vision_tower_name_or_path"] = tower.location
    report.add("MAPPED", "mm_vision_tower", "vision_tower_name_or_path", source.get("mm_vision_tower"))
    taken.add("mm_vision_tower")
    put("projector_type", source.get("mm_projector_type") or "linear", "mm_projector_type", "the original's default")

    is_siglip = vision_config["model_type"].startswith("siglip")
    layer = source.get("mm_vision_select_layer", -2)
    feature = source.get("mm_vision_select_feature") or "patch"
    if is_siglip:
        # LLaVA-NeXT deletes SigLIP's last layer and reads the end of what remains: the state before the last layer.
        layer, strategy = -2, "full"
        if source.get("mm_vision_select_layer", -2) != -2:
            report.add("DROPPED", "mm_vision_select_layer", reason="the original's SigLIP tower ignores it")
            taken.add("mm_vision_select_layer")
    else:
        layer, strategy = _feature_layers(layer, feature, vision_config["num_hidden_layers"])
    put("vision_feature_layer", layer, "mm_vision_select_layer", "the value of all published training scripts")
    put("vision_feature_select_strategy", strategy, "mm_vision_select_feature", "the original's default, patches only")
    target["vision_config"] = vision_config
    report.add("MAPPED", "mm_vision_tower", "vision_config", vision_config["model_type"])

    merge_type = source.get("mm_patch_merge_type") or "flat"
    put("patch_merge_type", _check_merge_type(merge_type), "mm_patch_merge_type", "the original's default")
    aspect_ratio = source.get("image_aspect_ratio") or "square"
    put("image_aspect_ratio", _check_aspect_ratio(aspect_ratio), "image_aspect_ratio", "the original's default")
    pinpoints = parse_pinpoints(source.get("image_grid_pinpoints"), vision_config["image_size"])
    put("image_grid_pinpoints", pinpoints, "image_grid_pinpoints", "not tiled")
    put("max_sequence_length", source.get("tokenizer_model_max_length"), "tokenizer_model_max_length", "no limit")
    put("tie_word_embeddings", _tied(source, text_type), "tie_word_embeddings", f"the default of {text_type}")
    dtype = source.get("dtype", source.get("torch_dtype"))
    if dtype is not None:
        target["dtype"] = dtype
        report.add("MAPPED", "dtype" if "dtype" in source else "torch_dtype", "dtype", dtype)
        taken |= {"dtype", "torch_dtype"}

    for key, place in ELSEWHERE.items():
        if key in source:
            report.add("MAPPED", key, place, source[key])
            taken.add(key)
    rest = {key: value for key, value in source.items() if key not in taken}
    dropped = {key: reason for key in rest if (reason := _drop_reason(key)) is not None}
    text, text_account = split_text_config({k: v for k, v in rest.items() if k not in dropped}, text_type, num_tokens)
    for key, reason in sorted(dropped.items()):
        report.add("DROPPED", key, value=rest[key], reason=reason)
    for status, key, name, value, reason in text_account:
        report.add(status, key, name, value, reason)
    text.setdefault("tie_word_embeddings", target["tie_word_embeddings"])
    target["text_config"] = text
    target["image_token_index"] = text["vocab_size"] if image_token_index is None else image_token_index
    report.add("DEFAULTED", "", "image_token_index", target["image_token_index"], "the tokenizer's id of <image>")
    return target, report


def _feature_layers(layer: int, feature: str, num_layers: int) -> tuple[int | list[int], str]:
    """LLaVA-NeXT's `slice...` features are concatenations of hidden states, which our layer lists express."""
    base = feature.removesuffix("cls_patch").removesuffix("patch").rstrip("_")
    strategy = SELECT_FEATURES["cls_patch" if feature.endswith("cls_patch") else "patch"]
    if feature in SELECT_FEATURES:
        return layer, strategy
    if base == "slicefour":
        step = (num_layers + 1) // 4
        return list(range(step + layer, num_layers + 1, step)), strategy
    if base == "slice_m25811_f6":
        return [-2, -5, -8, -11, 6], strategy
    raise ValueError(
        f"mm_vision_select_feature={feature!r} is not known, so the projector's input could not be built. Known: "
        "patch, cls_patch, slicefour_patch, slice_m25811_f6_patch and their _cls_patch twins."
    )


def _check_merge_type(merge_type: str) -> str:
    if merge_type in ("flat", "spatial", "spatial_unpad"):
        return merge_type
    raise ValueError(
        f"mm_patch_merge_type={merge_type!r} is a variant of LLaVA-NeXT that open_llava does not have (it has flat, "
        "spatial and spatial_unpad). Converting it would give other visual tokens, so it is refused."
    )


def _check_aspect_ratio(aspect_ratio: str) -> str:
    if aspect_ratio in ("highres", "crop_split"):
        raise ValueError(
            f"image_aspect_ratio={aspect_ratio!r} is a variant of LLaVA-NeXT that open_llava does not have (it has "
            "square, pad, anyres and anyres_max_N). Converting it would give other pixels, so it is refused."
        )
    # Whatever else the original does not know falls through to the tower's own preprocessing there.
    return aspect_ratio if aspect_ratio == "pad" or aspect_ratio.startswith("anyres") else "square"


def _refuse_s2(source: dict[str, Any]) -> None:
    if source.get("s2"):
        raise ValueError(
            "s2=true: this checkpoint reads its images at several scales through the third-party S2 wrapper, which "
            "open_llava does not have. Converting it would give other features, so it is refused."
        )


def _tied(source: dict[str, Any], text_type: str) -> bool:
    return bool(source.get("tie_word_embeddings", text_type in ("gemma", "mpt")))


def _drop_reason(key: str) -> str | None:
    if key in DROPPED:
        return DROPPED[key]
    return next((why for name, why in DROPPED.items() if name.endswith("*") and key.startswith(name[:-1])), None)


__all__ = ["DROPPED", "ELSEWHERE", "convert_original"]
