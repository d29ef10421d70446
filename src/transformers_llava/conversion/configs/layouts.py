"""Convert configurations of other layouts to ours, each field accounted for.

The original writes everything flat into the language model's own configuration; llava-hf nests it like we do, under
other names. [`convert_config`] says of every field whether it was MAPPED, DEFAULTED or DROPPED and why;
[`normalize_config_dict`] is the same without the account.
"""

from pathlib import Path
from typing import Any, Literal

from transformers_llava.artifacts.untrusted import read_json
from transformers_llava.conversion.configs.builtin import convert_builtin
from transformers_llava.conversion.configs.original import convert_original
from transformers_llava.conversion.conversion_report import ConfigField, ConfigReport


Layout = Literal["open_llava", "builtin", "original"]

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
# Fields whose kind decides how a configuration is read; the libraries check the others.
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("model_type", "mm_vision_tower", "mm_projector_type", "projector_type"), (str,)),
    **dict.fromkeys(("mm_vision_select_feature", "mm_patch_merge_type", "patch_merge_type"), (str,)),
    **dict.fromkeys(("image_aspect_ratio", "vision_aspect_ratio", "vision_feature_select_strategy"), (str,)),
    **dict.fromkeys(("mm_vision_select_layer", "vision_feature_layer"), (int, list)),
    **dict.fromkeys(("image_token_index", "image_token_id", "vocab_size", "tokenizer_model_max_length"), (int,)),
    **dict.fromkeys(("text_config", "vision_config"), (dict,)),
    "architectures": (list,),
    "image_grid_pinpoints": (list, str),
}
BUILTIN_TYPES = ("llava", "llava_next", "llava_onevision")


def layout_of(config_dict: dict[str, Any]) -> Layout | None:
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
        report = ConfigReport("open_llava")
        for name, value in sorted(config_dict.items()):
            report.add("MAPPED", name, name, value)
        return config_dict, report
    raise ValueError(
        f"config.json has model_type={config_dict.get('model_type')!r} and neither the keys of an original LLaVA "
        "(mm_vision_tower) nor those of llava-hf (text_config), so it is no LLaVA that this package knows. Plain "
        "language models are given with `base=`."
    )


def check_kinds(config_dict: dict[str, Any]) -> None:
    """
    Refuse a configuration of which a field that this package reads is of another kind than it must be.

    Raises:
        ValueError: With the field's name and value.
    """
    for name, kind in _KINDS.items():
        value = config_dict.get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            kinds = " or ".join(one.__name__ for one in kind)
            raise ValueError(f"{name}={value!r} is a {type(value).__name__} where {kinds} is expected. Correct it.")
    if not all(isinstance(name, str) for name in config_dict.get("architectures") or ()):
        raise ValueError(f"architectures={config_dict['architectures']!r} is no list of names. Correct it.")


def read_config(folder: str | Path) -> dict[str, Any]:
    """The `config.json` of a folder as it stands."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ValueError(
            f"{folder} has no config.json, so nothing tells what its weights are. Add the checkpoint's own."
        )
    return read_json(path)


__all__ = [
    "BUILTIN_TYPES",
    "ConfigField",
    "ConfigReport",
    "Layout",
    "ORIGINAL_TYPES",
    "check_kinds",
    "convert_config",
    "layout_of",
    "normalize_config_dict",
    "read_config",
]
