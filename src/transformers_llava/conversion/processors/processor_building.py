"""Build the processor that fits a checkpoint's model from its tokenizer, image settings and configuration."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from transformers_llava.chat_templates import load_chat_template
from transformers_llava.conversion.configs.tower_lookup import resolve_tower
from transformers_llava.conversion.processors.original_tokenizer import load_original_tokenizer
from transformers_llava.conversion.processors.template_choice import select_chat_template
from transformers_llava.conversion.small_files import optional_json
from transformers_llava.modeling.configuration_open_llava import OpenLlavaConfig
from transformers_llava.modeling.image_processing_pil_open_llava import OpenLlavaImageProcessorPil
from transformers_llava.modeling.processing_open_llava import OpenLlavaProcessor, default_image_processor


IMAGE_TOKEN = "<image>"
_TOKENIZER_FILES = ("tokenizer.model", "tokenizer.json", "vocab.json", "tokenizer_config.json", "added_tokens.json")
_SETTINGS = (
    "do_resize",
    "size",
    "resample",
    "do_center_crop",
    "crop_size",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
    "do_convert_rgb",
)


def build_original_processor(
    folder: str | Path,
    raw: dict[str, Any],
    config: OpenLlavaConfig,
    *,
    template: str | None = None,
    chat_template: str | None = None,
) -> OpenLlavaProcessor:
    """
    The processor of an original checkpoint.

    Args:
        folder (`str`): Where its tokenizer lies: its own folder, or its base model's for LoRA and projector folders.
        raw (`dict`): Its `config.json`.
        config ([`OpenLlavaConfig`]): The same in our layout.
        template (`str`, *optional*): Name of a conversation template; its architecture and tokenizer choose by
            default.
        chat_template (`str`, *optional*): Jinja source, in place of a name.
    """
    tokenizer = load_original_tokenizer(folder, config=raw)
    if chat_template is None:
        name = template or select_chat_template(raw, tokenizer)
        chat_template = load_chat_template(name, use_im_start_end=bool(raw.get("mm_use_im_start_end")))
    images = _tower_image_processor(config) or default_image_processor(config)
    return OpenLlavaProcessor.from_model_config(
        config, tokenizer, image_processor=images, chat_template=chat_template, image_token=IMAGE_TOKEN
    )


def build_builtin_processor(
    folder: str | Path, config: OpenLlavaConfig, *, chat_template: str | None = None
) -> OpenLlavaProcessor:
    """The processor of a llava-hf folder: its own tokenizer, template and image settings behind our class."""
    folder = Path(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor_settings = optional_json(folder / "processor_config.json")
    settings = processor_settings.get("image_processor") or optional_json(folder / "preprocessor_config.json")
    if chat_template is None:
        chat_template = _stored_template(folder, processor_settings, tokenizer)
    images = default_image_processor(config)
    if settings:
        images = OpenLlavaImageProcessorPil(**_known_settings(settings, config.vision_config.image_size))
        if config.vision_config.model_type.startswith("siglip") and "do_center_crop" not in settings:
            images.do_center_crop = False
    image_token = processor_settings.get("image_token") or getattr(tokenizer, "image_token", None) or IMAGE_TOKEN
    return OpenLlavaProcessor.from_model_config(
        config, tokenizer, image_processor=images, chat_template=chat_template, image_token=image_token
    )


@dataclass(frozen=True)
class TokenizerFacts:
    """
    What the tokenizer of an original checkpoint decides; nothing where there is none.

    Attributes:
        num_tokens (`int`, *optional*): Its length without the image token.
        image_token_index (`int`, *optional*): Id of `<image>`.
    """

    num_tokens: int | None = None
    image_token_index: int | None = None


def tokenizer_facts(folder: str | Path | None, raw: dict[str, Any]) -> TokenizerFacts:
    """Those of the tokenizer in a folder, read again when its files have changed."""
    if folder is None or not any((Path(folder) / name).is_file() for name in _TOKENIZER_FILES[:3]):
        return TokenizerFacts()
    stamp = tuple(
        (Path(folder) / name).stat().st_mtime_ns if (Path(folder) / name).is_file() else 0 for name in _TOKENIZER_FILES
    )
    keys = ("model_type", "architectures", "mm_use_im_patch_token", "mm_use_im_start_end", "mm_vision_tower")
    return _tokenizer_facts(str(folder), json.dumps({key: raw[key] for key in keys if key in raw}), stamp)


@lru_cache(maxsize=32)
def _tokenizer_facts(folder: str, raw: str, stamp: tuple[int, ...]) -> TokenizerFacts:
    tokenizer = load_original_tokenizer(folder, config=json.loads(raw))
    vocabulary = tokenizer.get_vocab()
    image_token_index = vocabulary.pop(IMAGE_TOKEN)
    return TokenizerFacts(max(vocabulary.values()) + 1, image_token_index)


def _tower_image_processor(config: OpenLlavaConfig) -> OpenLlavaImageProcessorPil | None:
    """
    The image settings beside a CLIP tower's weights. LLaVA-NeXT gives SigLIP its own, whatever that folder says;
    and a tower on the Hub is one of those whose settings are the family's.
    """
    if config.vision_config.model_type.startswith("siglip") or not config.vision_tower_name_or_path:
        return None
    tower = resolve_tower(config.vision_tower_name_or_path)
    settings = optional_json(Path(tower.location) / "preprocessor_config.json") if tower.is_local else {}
    return (
        OpenLlavaImageProcessorPil(**_known_settings(settings, config.vision_config.image_size)) if settings else None
    )


def _known_settings(settings: dict[str, Any], side: int) -> dict[str, Any]:
    """Settings as today's image processors take them; files of 2022 have plain numbers for sizes."""
    known = {name: settings[name] for name in _SETTINGS if settings.get(name) is not None}
    for name in ("image_mean", "image_std"):
        values = known.get(name, [0.5])
        values = values if isinstance(values, list | tuple) else [values]
        if not values or len(values) > 3 or not all(isinstance(value, int | float) for value in values):
            raise ValueError(f"{name}={known[name]!r} in its settings is no list of three numbers. Correct it.")
    known.setdefault("size", {"shortest_edge": side})
    if isinstance(known["size"], int):
        known["size"] = {"shortest_edge": known["size"]}
    crop = known.get("crop_size", side)
    if isinstance(crop, int):
        known["crop_size"] = {"height": crop, "width": crop}
    return known


def _stored_template(folder: Path, settings: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> str | None:
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    stored = optional_json(folder / "chat_template.json").get("chat_template")
    return stored or settings.get("chat_template") or getattr(tokenizer, "chat_template", None)


__all__ = ["TokenizerFacts", "build_builtin_processor", "build_original_processor", "tokenizer_facts"]
