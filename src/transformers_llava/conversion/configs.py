"""Configurations of other layouts to ours, each field accounted for.

The original writes everything flat into the language model's own configuration; llava-hf nests it like we do, under
other names. [`convert_config`] says of every field whether it was MAPPED, DEFAULTED or DROPPED and why;
[`normalize_config_dict`] is the same without the account.
"""

import json
from pathlib import Path
from typing import Any

from transformers_llava.conversion.builtin_configs import convert_builtin
from transformers_llava.conversion.config_report import ConfigField, ConfigReport
from transformers_llava.conversion.original_configs import convert_original


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


def layout_of(config_dict: dict[str, Any]) -> str | None:
    """`open_llava`, `builtin`, `original`, or `None` for none of them; decided by keys, never by a folder's name."""
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
        folder (`str`, *optional*): Folder or Hub id it was read from: a relative `mm_vision_tower` and the tokenizer
            that decides the image token's id are looked for there.

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
        return convert_original(dict(config_dict), folder, vision_tower, num_tokens, image_token_index)
    if layout == "builtin":
        return convert_builtin(dict(config_dict), folder)
    if layout == "open_llava":
        return config_dict, ConfigReport("open_llava")
    raise ValueError(
        f"config.json has model_type={config_dict.get('model_type')!r} and neither the keys of an original LLaVA "
        "(mm_vision_tower) nor those of llava-hf (text_config), so it is no LLaVA that this package knows. Plain "
        "language models are given with `base=`."
    )


def read_config(folder: str | Path) -> dict[str, Any]:
    """The `config.json` of a folder as it stands."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ValueError(
            f"{folder} has no config.json, so nothing tells what its weights are. Add the checkpoint's own."
        )
    return json.loads(path.read_text(encoding="utf-8"))


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
