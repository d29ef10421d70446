"""Rewrite the JSON files of an exported folder so that transformers 4.57 reads what transformers 5 has written.

transformers 5 names classes and fields that 4.57 does not know; some of them it refuses, others it passes over, and
a model whose `rope_theta` is passed over answers nonsense. Both generations read what is written here the same.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers_llava.artifacts.untrusted import read_json


# Said by transformers 5 about itself and the machine that saved; nobody reads them from a folder.
_ABOUT_SAVING = ("backend", "is_local", "local_files_only")


def rewrite_for_older_readers(folder: str | Path) -> None:
    """
    Rewrite `config.json`, `tokenizer_config.json` and `processor_config.json` of an export in place.

    Args:
        folder (`str` or `Path`): What the built-in classes' `save_pretrained` has written.
    """
    folder = Path(folder)
    for name, rewritten in (
        ("config.json", _with_rope_fields),
        ("tokenizer_config.json", _older_tokenizer_config),
        ("processor_config.json", _without_image_processor),
    ):
        _rewrite(folder / name, rewritten)


def is_known_to_older_readers(text_config: dict[str, Any]) -> bool:
    """Whether 4.57 can be told the positions of a language model: not where every kind of layer has its own."""
    return not any(isinstance(value, dict) for value in (text_config.get("rope_parameters") or {}).values())


def _with_rope_fields(config: dict[str, Any]) -> dict[str, Any]:
    """`rope_theta`, `rope_scaling` and `partial_rotary_factor`, which 4.57 reads in place of `rope_parameters`."""
    text = dict(config["text_config"])
    rope = dict(text.get("rope_parameters") or {})
    if rope and is_known_to_older_readers(text):
        for name in ("rope_theta", "partial_rotary_factor"):
            if name in rope:
                text[name] = rope.pop(name)
        if rope.get("rope_type", "default") != "default":
            text["rope_scaling"] = rope
    return {**config, "text_config": text}


def _older_tokenizer_config(config: dict[str, Any]) -> dict[str, Any]:
    """
    The class that takes `tokenizer.json` as it is, and special tokens under the names of 4.57.

    `extra_special_tokens` is a mapping from names there; what has no name stands in `additional_special_tokens`.
    """
    kept = {name: value for name, value in config.items() if name not in _ABOUT_SAVING}
    named = kept.pop("model_specific_special_tokens", None) or {}
    extra = kept.pop("extra_special_tokens", None) or []
    if isinstance(extra, dict):
        named, extra = {**extra, **named}, []
    kept["tokenizer_class"] = "PreTrainedTokenizerFast"
    kept["model_input_names"] = ["input_ids", "attention_mask"]
    if named:
        kept["extra_special_tokens"] = {name: _content(token) for name, token in named.items()}
    if extra:
        kept["additional_special_tokens"] = [_content(token) for token in extra]
    return dict(sorted(kept.items()))


def _without_image_processor(config: dict[str, Any]) -> dict[str, Any]:
    """4.51 takes the nested settings for a second image processor; `preprocessor_config.json` has them for all."""
    return {name: value for name, value in config.items() if name != "image_processor"}


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _rewrite(path: Path, rewritten: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    text = json.dumps(rewritten(read_json(path)), indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


__all__ = ["is_known_to_older_readers", "rewrite_for_older_readers"]
