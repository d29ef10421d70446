"""Configurations of other layouts to ours, each field accounted for.

The original writes everything flat into the language model's own configuration; llava-hf nests it like we do, under other
names. [`convert_config`] says of every field whether it was MAPPED, DEFAULTED or DROPPED and why;
[`normalize_config_dict`] is the same without the account.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from transformers_llava.conversion.pinpoints import hf_pinpoints_to_ours, parse_pinpoints
from transformers_llava.conversion.text_configs import split_text_config, text_model_type
from transformers_llava.conversion.towers import TowerNotFoundError, resolve_tower


Status = Literal["MAPPED", "DEFAULTED", "DROPPED"]

ORIGINAL_TYPES = (
    "llava_llama",
    "llava_mistral",
    "llava_qwen",
    "llava_qwen2",
    "llava_qwen_moe",
    "llava_mixtral",
    "llava_gemma",
    "llava_mpt",
)
BUILTIN_TYPES = ("llava", "llava_next", "llava_onevision")

# Fields of flat configurations that no reader needs. Prefixes end with `*`.
DROPPED: dict[str, str] = {
    "architectures": "chose the language model; ours is OpenLlavaForConditionalGeneration",
    "transformers_version": "is written anew",
    "_name_or_path": "the model that training started from; never read",
    "use_mm_proj": "written by the original, read only by its v0 code",
    "mm_hidden_size": "follows from the vision tower",
    "mm_use_im_start_end": "goes into the tokenizer and the chat template",
    "mm_use_im_patch_token": "goes into the tokenizer",
    "tokenizer_padding_side": "is a setting of the tokenizer",
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
    "unfreeze_mm_vision_tower": "a switch of training; it also says whose tower weights count, see towers.py",
    "mm_tunable_parts": "a switch of training; it also says whose tower weights count, see towers.py",
    "mm_projector_lr": "a learning rate",
    "mm_vision_tower_lr": "a learning rate",
    "s2": "switched off",
    "s2_scales": "S2 is switched off",
    "image_token_index": "the tokenizer decides: the original has no such token",
}
SELECT_FEATURES = {"patch": "default", "cls_patch": "full"}


@dataclass(frozen=True)
class ConfigField:
    """What became of one field: `source` is its name in the source, `target` here; one of them may be empty."""

    status: Status
    source: str = ""
    target: str = ""
    value: Any = None
    reason: str = ""


@dataclass
class ConfigReport:
    """Every field of a source configuration and what became of it."""

    layout: str
    fields: list[ConfigField] = field(default_factory=list)

    def add(self, status: Status, source: str = "", target: str = "", value: Any = None, reason: str = "") -> None:
        self.fields.append(ConfigField(status, source, target, value, reason))

    def to_dict(self) -> dict[str, Any]:
        return {"layout": self.layout, "fields": [asdict(row) for row in self.fields]}


def layout_of(config_dict: dict[str, Any]) -> str | None:
    """`open_llava`, `builtin`, `original`, or `None` for what is none of them; decided by keys, never by a folder's name."""
    model_type = config_dict.get("model_type")
    if model_type == "open_llava":
        return "open_llava"
    if model_type in BUILTIN_TYPES and ("text_config" in config_dict or "vision_config" in config_dict):
        return "builtin"
    if "text_config" not in config_dict and ("mm_vision_tower" in config_dict or "mm_hidden_size" in config_dict):
        return "original"
    return None


def normalize_config_dict(config_dict: dict[str, Any], folder: str | None = None) -> dict[str, Any]:
    """
    A configuration dictionary of any layout in ours; ours and unknown ones come back as they are.

    Args:
        config_dict (`dict`): What stands in `config.json`; it is not changed.
        folder (`str`, *optional*): Folder or Hub id it was read from: a relative `mm_vision_tower` and the tokenizer that
            decides the image token's id are looked for there.

    Example:

        >>> normalize_config_dict({"model_type": "open_llava"})
        {'model_type': 'open_llava'}
    """
    if layout_of(config_dict) in (None, "open_llava"):
        return config_dict
    return convert_config(config_dict, folder)[0]


def convert_config(
    config_dict: dict[str, Any],
    folder: str | Path | None = None,
    *,
    vision_tower: str | Path | None = None,
    num_tokens: int | None = None,
    image_token_index: int | None = None,
) -> tuple[dict[str, Any], ConfigReport]:
    """
    [`normalize_config_dict`] with its account.

    Args:
        vision_tower (`str`, *optional*): Tower to use in place of the configured one.
        num_tokens (`int`, *optional*): Length of the checkpoint's tokenizer without the image token. It becomes the
            vocabulary size: the original's loader resizes the embeddings to it, downwards too.
        image_token_index (`int`, *optional*): Id of `<image>` in the tokenizer in use.

    Raises:
        ValueError: For what the original knows and we do not, and for towers that cannot be found.
    """
    layout = layout_of(config_dict)
    if layout == "original":
        return _convert_original(dict(config_dict), folder, vision_tower, num_tokens, image_token_index)
    if layout == "builtin":
        return _convert_builtin(dict(config_dict), folder)
    if layout == "open_llava":
        return config_dict, ConfigReport("open_llava")
    raise ValueError(
        f"config.json has model_type={config_dict.get('model_type')!r} and neither the keys of an original LLaVA "
        "(mm_vision_tower) nor those of llava-hf (text_config), so it is no LLaVA that this package knows. Plain language "
        "models are given with `base=`."
    )


def _convert_original(
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
    put("vision_tower_name_or_path", tower.location, "mm_vision_tower", "given by the caller")
    put("projector_type", source.get("mm_projector_type") or "linear", "mm_projector_type", "the original's default")

    is_siglip = vision_config["model_type"].startswith("siglip")
    layer: int | list[int] = source.get("mm_vision_select_layer", -2)
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


def _convert_builtin(source: dict[str, Any], folder: str | Path | None) -> tuple[dict[str, Any], ConfigReport]:
    report = ConfigReport(source["model_type"])
    kind = source.pop("model_type")
    target: dict[str, Any] = {"model_type": "open_llava", "original_model_type": kind}
    report.add("MAPPED", "model_type", "original_model_type", kind)
    # What an export of ours could not say in the built-in class's own fields; see export.py.
    kept = source.pop("open_llava", None) or {}
    onevision = kind == "llava_onevision"
    vision_type, text_type = ("siglip_vision_model", "qwen2") if onevision else ("clip_vision_model", "llama")
    for name, default_type in (("vision_config", vision_type), ("text_config", text_type)):
        if isinstance(source.get(name), dict):
            target[name] = {"model_type": default_type, **source.pop(name)}
            report.add("MAPPED", name, name, target[name]["model_type"])
        else:
            source.pop(name, None)
            target[name] = _builtin_default(kind, name)
            report.add("DEFAULTED", "", name, target[name]["model_type"], "the built-in class's default")
    target["projector_type"] = "mlp2x_gelu"
    report.add("DEFAULTED", "", "projector_type", "mlp2x_gelu", "the only one of the built-in class")
    same = {
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": True,
        "vision_feature_layer": -1 if onevision else -2,
        "vision_feature_select_strategy": "full" if onevision else "default",
        "image_token_index": 151646 if onevision else 32000,
    }
    if "image_token_id" in source:
        source["image_token_index"] = source.pop("image_token_id")
    for name, default in same.items():
        target[name] = source.pop(name, default)
        report.add("MAPPED", name, name, target[name])
    tied = bool(source.pop("tie_word_embeddings", False)) or bool(target["text_config"].get("tie_word_embeddings"))
    target["tie_word_embeddings"] = tied
    report.add("MAPPED", "tie_word_embeddings", "tie_word_embeddings", tied)

    target["image_aspect_ratio"], target["patch_merge_type"] = {
        "llava": (_builtin_aspect_ratio(folder), "flat"),
        "llava_next": ("anyres", "spatial_unpad"),
        "llava_onevision": (source.pop("vision_aspect_ratio", "anyres_max_9"), "spatial_unpad"),
    }[kind]
    report.add("DEFAULTED", "", "image_aspect_ratio", target["image_aspect_ratio"], "what the built-in class does")
    report.add("DEFAULTED", "", "patch_merge_type", target["patch_merge_type"], "what the built-in class does")
    if kind != "llava":
        stored = source.pop("image_grid_pinpoints", None) or _builtin_default(kind, "image_grid_pinpoints")
        target["image_grid_pinpoints"], reason = hf_pinpoints_to_ours(stored)
        report.add("MAPPED", "image_grid_pinpoints", "image_grid_pinpoints", target["image_grid_pinpoints"], reason)
    for name, value in kept.items():
        (target["text_config"] if name == "vocab_size" else target)[name] = value
        report.add("MAPPED", f"open_llava.{name}", name, value, "kept by our export")
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if source.get(name) is not None and target["text_config"].get(name) is None:
            target["text_config"][name] = source.pop(name)
            report.add("MAPPED", name, f"text_config.{name}", target["text_config"][name])
    for name in ("dtype", "torch_dtype", "quantization_config"):
        if source.get(name) is not None:
            target["dtype" if name == "torch_dtype" else name] = source.pop(name)
            report.add("MAPPED", name, name, target.get(name))
    for name in sorted(source):
        report.add("DROPPED", name, value=source[name], reason="not read by our classes")
    return target, report


def read_config(folder: str | Path) -> dict[str, Any]:
    """The `config.json` of a folder as it stands."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ValueError(
            f"{folder} has no config.json, so nothing tells what its weights are. Add the checkpoint's own."
        )
    return json.loads(path.read_text(encoding="utf-8"))


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
        f"mm_vision_select_feature={feature!r} is not known, so the projector's input could not be built. Known: patch, "
        "cls_patch, slicefour_patch, slice_m25811_f6_patch and their _cls_patch twins."
    )


def _check_merge_type(merge_type: str) -> str:
    if merge_type in ("flat", "spatial", "spatial_unpad"):
        return merge_type
    raise ValueError(
        f"mm_patch_merge_type={merge_type!r} is a variant of LLaVA-NeXT that open_llava does not have (it has flat, spatial "
        "and spatial_unpad). Converting it would give other visual tokens, so it is refused."
    )


def _check_aspect_ratio(aspect_ratio: str) -> str:
    if aspect_ratio in ("highres", "crop_split"):
        raise ValueError(
            f"image_aspect_ratio={aspect_ratio!r} is a variant of LLaVA-NeXT that open_llava does not have (it has square, "
            "pad, anyres and anyres_max_N). Converting it would give other pixels, so it is refused."
        )
    # Whatever else the original does not know falls through to the tower's own preprocessing there.
    return aspect_ratio if aspect_ratio == "pad" or aspect_ratio.startswith("anyres") else "square"


def _refuse_s2(source: dict[str, Any]) -> None:
    if source.get("s2"):
        raise ValueError(
            "s2=true: this checkpoint reads its pictures at several scales through the third-party S2 wrapper, which "
            "open_llava does not have. Converting it would give other features, so it is refused."
        )


def _tied(source: dict[str, Any], text_type: str) -> bool:
    return bool(source.get("tie_word_embeddings", text_type in ("gemma", "mpt")))


def _drop_reason(key: str) -> str | None:
    if key in DROPPED:
        return DROPPED[key]
    return next((why for name, why in DROPPED.items() if name.endswith("*") and key.startswith(name[:-1])), None)


def _builtin_aspect_ratio(folder: str | Path | None) -> str:
    """Whether a local llava-hf folder pads: its picture settings say so."""
    for name in ("processor_config.json", "preprocessor_config.json"):
        path = Path(folder) / name if folder else None
        if path and path.is_file():
            settings = json.loads(path.read_text(encoding="utf-8"))
            settings = settings.get("image_processor", settings)
            if settings.get("do_pad"):
                return "pad"
    return "square"


def _builtin_default(kind: str, name: str) -> Any:
    from transformers import AutoConfig

    value = getattr(AutoConfig.for_model(kind), name)
    return value.to_dict() if hasattr(value, "to_dict") else value


__all__ = [
    "BUILTIN_TYPES",
    "ORIGINAL_TYPES",
    "ConfigField",
    "ConfigReport",
    "convert_config",
    "layout_of",
    "normalize_config_dict",
    "read_config",
]
