"""Choose the conversation template that a checkpoint was trained with, by its architecture and tokenizer.

The original asks the folder's name ("v1", "mistral", "v1.6-34b"), so a renamed folder got another prompt. Here the
language model's class and the vocabulary decide. What neither shows must be chosen by name: Llama-2-chat
(`llava_llama_2`; its tokenizer is Vicuna's), OpenOrca and Zephyr (`mistral_orca`, `mistral_zephyr`), checkpoints
trained with `<Image></Image>` (`v1_mmtag`), stage-1 projectors (`plain`).
"""

from typing import Any

from transformers import PreTrainedTokenizerBase

from transformers_llava.conversion.configs.text import text_model_type


_ANY: frozenset[str] = frozenset()
# (language models, tokens the vocabulary has, template); the first row that fits wins.
TEMPLATE_RULES: tuple[tuple[frozenset[str], tuple[str, ...], str], ...] = (
    (frozenset({"mpt"}), (), "mpt"),
    (frozenset({"gemma"}), (), "gemma_instruct"),
    (_ANY, ("<|start_header_id|>", "<|eot_id|>"), "llava_llama_3"),
    (frozenset({"qwen2", "qwen2_moe"}), (), "qwen_1_5"),
    (_ANY, ("<|im_start|>", "<|im_end|>"), "chatml_direct"),  # ChatML vocabularies: Yi-34B, Hermes
    (frozenset({"mistral", "mixtral"}), (), "mistral_instruct"),
    (_ANY, ("[PAD]", "<im_start>"), "llava_v0"),  # only the delta weights of v0 have both
    (_ANY, (), "vicuna_v1"),
)


def select_chat_template(config: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> str:
    """
    Choose the conversation template of an original checkpoint by `TEMPLATE_RULES`.

    Args:
        config (`dict`): its `config.json`.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer, as `load_original_tokenizer` builds it.

    Returns:
        `str`: a name that `load_chat_template` knows.

    Raises:
        ValueError: the configuration names no language model of the original code bases.

    Example:

        >>> select_chat_template({"architectures": ["LlavaMistralForCausalLM"]}, tokenizer)  # doctest: +SKIP
        'mistral_instruct'
    """
    language_model = text_model_type(config)
    vocabulary = tokenizer.get_vocab()
    for language_models, tokens, template in TEMPLATE_RULES:
        if language_model in (language_models or {language_model}) and all(token in vocabulary for token in tokens):
            return template
    raise AssertionError("the last row of TEMPLATE_RULES fits everything")


__all__ = ["TEMPLATE_RULES", "select_chat_template"]
