"""Convert a nested configuration of llava-hf to ours, field by field."""

from pathlib import Path
from typing import Any

from transformers_llava.artifacts.untrusted import read_json
from transformers_llava.conversion.configs.pinpoints import hf_pinpoints_to_ours, our_pinpoints_to_hf
from transformers_llava.conversion.conversion_report import ConfigReport


def convert_builtin(source: dict[str, Any], folder: str | Path | None) -> tuple[dict[str, Any], ConfigReport]:
    report = ConfigReport(source["model_type"])
    kind = source.pop("model_type")
    target: dict[str, Any] = {"model_type": "open_llava", "original_model_type": kind}
    report.add("MAPPED", "model_type", "original_model_type", kind)
    # What an export of ours could not say in the built-in class's own fields; see export.py.
    kept = source.pop("open_llava", None) or {}
    if not isinstance(kept, dict):
        raise ValueError(f"open_llava={kept!r} is no mapping of fields, as our exports write it. Remove it.")
    onevision = kind == "llava_onevision"
    vision_type, text_type = ("siglip_vision_model", "qwen2") if onevision else ("clip_vision_model", "llama")
    for name, default_type in (("vision_config", vision_type), ("text_config", text_type)):
        if source.get(name) is not None and not isinstance(source[name], dict):
            raise ValueError(f"{name}={source[name]!r} is no mapping of fields. Correct it.")
        if isinstance(source.get(name), dict):
            target[name] = {"model_type": default_type, **source.pop(name)}
            report.add("MAPPED", name, name, target[name]["model_type"])
        else:
            source.pop(name, None)
            target[name] = _builtin_default(kind, name)
            report.add("DEFAULTED", "", name, target[name]["model_type"], "the built-in class's default")
    target["projector_type"] = "mlp2x_gelu"
    report.add("DEFAULTED", "", "projector_type", "mlp2x_gelu", "the only one of the built-in class")
    same_strategy = "full" if onevision else "default"
    same = {
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": True,
        "vision_feature_layer": -1 if onevision else -2,
        "vision_feature_select_strategy": same_strategy,
        "image_token_index": 151646 if onevision else 32000,
    }
    vision_type = target["vision_config"].get("model_type", "")
    if vision_type.startswith("siglip") and source.get("vision_feature_select_strategy", same_strategy) == "default":
        raise ValueError(
            "this configuration reads a SigLIP tower with vision_feature_select_strategy='default', by which the "
            "built-in class drops the first patch; here no patch is ever dropped, so answers would differ. Set it to "
            "'full', as every published checkpoint with SigLIP has it."
        )
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
    stored = None
    if kind != "llava":
        stored = source.pop("image_grid_pinpoints", None) or _builtin_default(kind, "image_grid_pinpoints")
        target["image_grid_pinpoints"], reason = hf_pinpoints_to_ours(stored)
        report.add("MAPPED", "image_grid_pinpoints", "image_grid_pinpoints", target["image_grid_pinpoints"], reason)
    for name, value in _still_true(kept, target, stored).items():
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


def _still_true(kept: dict[str, Any], target: dict[str, Any], stored_pinpoints: Any) -> dict[str, Any]:
    """What an export kept, without that which someone has changed since: tokens added to the table, other canvases."""
    kept = dict(kept)
    if target["text_config"].get("vocab_size") != padded_rows(target["image_token_index"]):
        kept.pop("vocab_size", None)
    if kept.get("image_grid_pinpoints") and our_pinpoints_to_hf(kept["image_grid_pinpoints"]) != stored_pinpoints:
        kept.pop("image_grid_pinpoints")
    return kept


def padded_rows(image_token_index: int) -> int:
    """Rows that give the image token one, rounded up to a multiple of 64 as llava-hf does."""
    return -(-(int(image_token_index) + 1) // 64) * 64


def _builtin_aspect_ratio(folder: str | Path | None) -> str:
    """Whether a local llava-hf folder pads: its image settings say so."""
    for name in ("processor_config.json", "preprocessor_config.json"):
        path = Path(folder) / name if folder else None
        if path and path.is_file():
            settings = read_json(path)
            settings = settings.get("image_processor", settings)
            if isinstance(settings, dict) and settings.get("do_pad"):
                return "pad"
    return "square"


def _builtin_default(kind: str, name: str) -> Any:
    from transformers import AutoConfig

    value = getattr(AutoConfig.for_model(kind), name)
    return value.to_dict() if hasattr(value, "to_dict") else value


__all__ = ["convert_builtin", "padded_rows"]
