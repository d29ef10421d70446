"""Which conversation template a checkpoint gets."""

from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from transformers_llava.chat_templates import list_chat_templates
from transformers_llava.conversion.processors.template_choice import TEMPLATE_RULES, select_chat_template


LLAMA = ["<unk>", "<s>", "</s>"]
CHATML = ["<|im_start|>", "<|im_end|>"]


def make_tokenizer(tokens: list[str]) -> PreTrainedTokenizerFast:
    vocabulary = {token: index for index, token in enumerate(["a", *tokens])}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="a")))


@pytest.mark.parametrize(
    ("config", "tokens", "template"),
    [
        ({"architectures": ["LlavaLlamaForCausalLM"]}, LLAMA, "vicuna_v1"),
        ({"model_type": "llava"}, LLAMA, "vicuna_v1"),
        ({"architectures": ["LlavaLlamaForCausalLM"]}, ["<im_patch>", "<im_start>", "<im_end>"], "vicuna_v1"),
        ({"architectures": ["LlavaLlamaForCausalLM"]}, ["[PAD]", "<im_patch>", "<im_start>"], "llava_v0"),
        ({"architectures": ["LlavaLlamaForCausalLM"]}, CHATML, "chatml_direct"),
        ({"architectures": ["LlavaLlamaForCausalLM"]}, ["<|start_header_id|>", "<|eot_id|>"], "llava_llama_3"),
        ({"architectures": ["LlavaMistralForCausalLM"], "model_type": "llava"}, LLAMA, "mistral_instruct"),
        ({"architectures": ["LlavaMixtralForCausalLM"]}, LLAMA, "mistral_instruct"),
        ({"architectures": ["LlavaMistralForCausalLM"]}, [*LLAMA, *CHATML], "chatml_direct"),
        ({"architectures": ["LlavaQwenForCausalLM"], "model_type": "llava"}, CHATML, "qwen_1_5"),
        ({"architectures": ["LlavaQwenMoeForCausalLM"]}, CHATML, "qwen_1_5"),
        ({"architectures": ["LlavaGemmaForCausalLM"]}, ["<start_of_turn>"], "gemma_instruct"),
        ({"architectures": ["LlavaMptForCausalLM"]}, CHATML, "mpt"),
        ({"architectures": ["LlavaMPTForCausalLM"]}, [], "mpt"),
    ],
)
def test_architecture_and_vocabulary_choose_the_template(
    config: dict[str, Any], tokens: list[str], template: str
) -> None:
    assert select_chat_template(config, make_tokenizer(tokens)) == template


def test_the_folders_name_does_not_count() -> None:
    config = {"architectures": ["LlavaLlamaForCausalLM"], "_name_or_path": "llava-v1.6-mistral-34b-qwen-mpt"}
    assert select_chat_template(config, make_tokenizer(LLAMA)) == "vicuna_v1"


def test_every_rule_names_a_template_that_exists() -> None:
    assert {template for _, _, template in TEMPLATE_RULES} <= set(list_chat_templates())


def test_an_unknown_language_model_is_refused() -> None:
    with pytest.raises(ValueError, match="GPT2LMHeadModel"):
        select_chat_template({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}, make_tokenizer(LLAMA))
