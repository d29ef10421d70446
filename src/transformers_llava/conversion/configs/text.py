"""Convert the language model's part of a flat original configuration to a `text_config`, field by field."""

import dataclasses
from typing import Any

from transformers import AutoConfig, GenerationConfig


# By class name first: published files carry `model_type: llava` for several language models.
TEXT_TYPE_OF_CLASS = {
    "LlavaLlamaForCausalLM": "llama",
    "LlavaMistralForCausalLM": "mistral",
    "LlavaMixtralForCausalLM": "mixtral",
    "LlavaQwenForCausalLM": "qwen2",
    "LlavaQwenMoeForCausalLM": "qwen2_moe",
    "LlavaGemmaForCausalLM": "gemma",
    "LlavaMptForCausalLM": "mpt",
    "LlavaMPTForCausalLM": "mpt",
}
TEXT_TYPE_OF_MODEL_TYPE = {
    "llava_llama": "llama",
    "llava_mistral": "mistral",
    "llava_mixtral": "mixtral",
    "llava_qwen": "qwen2",
    "llava_qwen2": "qwen2",
    "llava_qwen_moe": "qwen2_moe",
    "llava_gemma": "gemma",
    "llava_mpt": "mpt",
    "llama": "llama",
    "mistral": "mistral",
    "mixtral": "mixtral",
    "qwen2": "qwen2",
    "qwen2_moe": "qwen2_moe",
    "gemma": "gemma",
    "mpt": "mpt",
}
# Read by configuration classes although no field of theirs has the name.
_ALSO_READ = {"rope_theta", "rope_scaling", "partial_rotary_factor", "quantization_config"}
_TOKEN_IDS = {"bos_token_id", "eos_token_id", "pad_token_id"}
_NOT_TEXT = {"architectures", "chunk_size_feed_forward", "id2label", "label2id", "problem_type", "return_dict"}

Account = list[tuple[Any, str, str, Any, str]]


def text_model_type(source: dict[str, Any]) -> str:
    """
    Which language model an original checkpoint has.

    `architectures` decides, then `model_type`, then keys that only one family has.

    Example:

        >>> text_model_type({"architectures": ["LlavaQwenForCausalLM"], "model_type": "llava"})
        'qwen2'
    """
    for name in source.get("architectures") or ():
        if name in TEXT_TYPE_OF_CLASS:
            return TEXT_TYPE_OF_CLASS[name]
    if source.get("model_type") in TEXT_TYPE_OF_MODEL_TYPE:
        return TEXT_TYPE_OF_MODEL_TYPE[source["model_type"]]
    if "d_model" in source and "n_layers" in source:
        return "mpt"
    if source.get("model_type") in ("llava", None):
        return "llama"  # before v1.2 there was no other
    raise ValueError(
        f"Neither architectures={source.get('architectures')!r} nor model_type={source.get('model_type')!r} names a "
        "language model of the original code bases, so its layers could not be built. Known: "
        f"{', '.join(TEXT_TYPE_OF_CLASS)}."
    )


def split_text_config(
    fields: dict[str, Any], text_type: str, num_tokens: int | None = None
) -> tuple[dict[str, Any], Account]:
    """
    `text_config`, and one row (status, source, target, value, reason) per field.

    Args:
        fields (`dict`): Flat fields that no other part of the configuration has taken.
        text_type (`str`): `model_type` of the language model.
        num_tokens (`int`, *optional*): Length of the tokenizer; becomes `vocab_size`.
    """
    config_class = type(AutoConfig.for_model(text_type))
    known = {f.name for f in dataclasses.fields(config_class)} | set(config_class.attribute_map) | _ALSO_READ
    generation = set(GenerationConfig().to_dict()) - _TOKEN_IDS
    text: dict[str, Any] = {"model_type": text_type}
    account: Account = []
    for key, value in sorted(fields.items()):
        if key == "use_cache":
            account.append(("DROPPED", key, "", value, "training writes False; a loaded model answers with a cache"))
        elif key == "rope_scaling" and value is not None and text_type in ("mistral", "mixtral", "qwen2", "qwen2_moe"):
            account.append(("DROPPED", key, "", value, "the original's class sets it to None"))
        elif config_class.attribute_map.get(key) in fields:
            account.append(("DROPPED", key, "", value, f"the same as {config_class.attribute_map[key]}"))
        elif key in known - _NOT_TEXT:
            text[key] = value
            account.append(("MAPPED", key, f"text_config.{key}", value, ""))
        elif key in generation:
            account.append(("DROPPED", key, "", value, "a setting of generation: generation_config.json is its place"))
        else:
            account.append(("DROPPED", key, "", value, f"not read by {config_class.__name__}"))
    if num_tokens is not None and num_tokens != text.get("vocab_size"):
        reason = (
            f"was {text.get('vocab_size')}: the original's loader resizes the embeddings to the tokenizer's length"
        )
        text["vocab_size"] = num_tokens
        account.append(("MAPPED", "vocab_size", "text_config.vocab_size", num_tokens, reason))
    if "vocab_size" not in text:
        text["vocab_size"] = config_class().vocab_size
        account.append(("DEFAULTED", "", "text_config.vocab_size", text["vocab_size"], "the default of " + text_type))
    return text, account


__all__ = ["split_text_config", "text_model_type"]
