"""What each packaged template supervises, in literals to check by eye: two rounds about an image, [[supervised]]."""

import pytest

from transformers_llava.chat_templates import list_chat_templates, load_chat_template
from transformers_llava.data.inspection import render_example
from transformers_llava.data.tokens.encoding import encode_example
from transformers_llava.data.tokens.policy import EncodingPolicy


CHATML = (
    "<image>\nQ1<|im_end|><|im_start|>assistant\n[[A1<|im_end|>]]"
    "<|im_start|>user\nQ2<|im_end|><|im_start|>assistant\n[[A2<|im_end|>]]"
)
LLAMA_2 = "<image>\nQ1 [/INST][[ A1 </s>]]<s>[INST] Q2 [/INST][[ A2 </s>]]"
V0 = "<image>\nQ1###Assistant:[[ A1###]]Human: Q2###Assistant:[[ A2###]]"
V0_TRAINING = "<image>\nQ1\n### Assistant:[[ A1\n###]] Human: Q2\n### Assistant:[[ A2\n###]] "
V1 = "<image>\nQ1 ASSISTANT:[[ A1</s>]]USER: Q2 ASSISTANT:[[ A2</s>]]"
QWEN = (
    "<image>\nQ1<|im_end|>\n[[<|im_start|>assistant\nA1<|im_end|>\n]]"
    "<|im_start|>user\nQ2<|im_end|>\n[[<|im_start|>assistant\nA2<|im_end|>\n]]"
)
FROM_THE_IMAGE_ON = {
    "chatml_direct": CHATML,
    "gemma_instruct": (
        "<image>\nQ1<end_of_turn>\n<start_of_turn>model\n[[A1<end_of_turn>\n]]"
        "<start_of_turn>user\nQ2<end_of_turn>\n<start_of_turn>model\n[[A2<end_of_turn>\n]]"
    ),
    "llama_2": LLAMA_2,
    "llava_llama_2": LLAMA_2,
    "llava_llama_2_mmtag": LLAMA_2.replace("<image>", "<image></Image>"),
    "llava_llama_2_simple": LLAMA_2,
    "llava_llama_3": (
        "<image>\nQ1<|eot_id|>[[<|start_header_id|>assistant<|end_header_id|>\n\nA1<|eot_id|>]]"
        "<|start_header_id|>user<|end_header_id|>\n\nQ2<|eot_id|>"
        "[[<|start_header_id|>assistant<|end_header_id|>\n\nA2<|eot_id|>]]"
    ),
    "llava_v0": V0,
    "llava_v1": V1,
    "mistral_instruct": "<image>\nQ1 [/INST][[ A1 </s>]][INST] Q2 [/INST][[ A2 </s>]]",
    "mistral_orca": CHATML,
    "mistral_zephyr": "<image>\nQ1</s><|assistant|>\n[[A1</s>]]<|user|>\nQ2</s><|assistant|>\n[[A2</s>]]",
    "mpt": CHATML,
    "plain": "<image>[[A1\nA2\n]]",
    "qwen_1_5": QWEN,
    "qwen_2_5": QWEN,
    "v0": V0,
    "v0_mmtag": V0.replace("<image>", "<image></Image>"),
    "v0_mmtag_training": V0_TRAINING.replace("<image>", "<image></Image>"),
    "v0_training": V0_TRAINING,
    "v1_mmtag": V1.replace("<image>", "<image></Image>"),
    "vicuna_v1": V1,
}


def test_every_packaged_template_has_a_literal():
    assert sorted(FROM_THE_IMAGE_ON) == sorted(list_chat_templates())


@pytest.mark.parametrize("name", FROM_THE_IMAGE_ON)
def test_the_supervised_text_is_this(name: str, tiny_processor, example):
    encoded = encode_example(
        example([None, "Q1"], "A1", "Q2", "A2"), tiny_processor, EncodingPolicy(template=load_chat_template(name))
    )
    text = render_example(encoded, tiny_processor).replace("\x1b[90m<image: 4 tokens>\x1b[0m", "<image>")
    text = text.replace("\x1b[32m", "[[").replace("\x1b[0m", "]]")
    before, _, after = text.partition("<image>")
    assert "<image>" + after == FROM_THE_IMAGE_ON[name]
    assert "[[" not in before
