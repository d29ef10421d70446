"""Make tiny models, tokenizers and processors in memory: the real classes at sizes that test in milliseconds."""

from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CLIPVisionConfig, LlamaConfig, PreTrainedTokenizerFast, SiglipVisionConfig

from transformers_llava import OpenLlavaConfig, OpenLlavaForConditionalGeneration, OpenLlavaProcessor


TILE, PATCH = 28, 14  # 2 x 2 = 4 patches a tile
SPECIAL_TOKENS = ["<unk>", "<s>", "</s>", "<pad>"]
PINPOINTS = [[28, 56], [56, 28], [56, 56]]
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% set parts = message['content'] %}"
    "{% if parts is string %}{% set parts = [{'type': 'text', 'text': parts}] %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{% generation %}{% for part in parts %}{{ part['text'] }}{% endfor %}"
    "{{ eos_token }}{% endgeneration %}{% else %}{% for part in parts %}"
    "{% if part['type'] == 'image' %}{{ '<image>\n' }}{% else %}{{ part['text'] }}{% endif %}{% endfor %}{{ ' ' }}"
    "{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, 260 ids, no `<image>`, adds no BOS."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*SPECIAL_TOKENS, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        padding_side="left",
    )


def make_config(tower: str = "clip", **overrides: Any) -> OpenLlavaConfig:
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_attention_heads": 2,
        "image_size": TILE,
        "patch_size": PATCH,
    }
    vision = {"clip": CLIPVisionConfig, "siglip": SiglipVisionConfig}[tower](num_hidden_layers=3, **sizes)
    text = overrides.pop("text_config", None) or LlamaConfig(
        vocab_size=260,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
    )
    return OpenLlavaConfig(vision_config=vision, text_config=text, **overrides)


def make_model(
    config: OpenLlavaConfig | None = None, *, seed: int = 0, **kwargs: Any
) -> OpenLlavaForConditionalGeneration:
    """Random weights, three times the usual scale so that answers depend on every input."""
    torch.manual_seed(seed)
    model = OpenLlavaForConditionalGeneration._from_config(config or make_config(**kwargs))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3.0)
    model.generation_config.pad_token_id = 3
    return model.eval()


def make_processor(config: OpenLlavaConfig | None = None, *, chat_template: str = TEMPLATE) -> OpenLlavaProcessor:
    return OpenLlavaProcessor.from_model_config(config or make_config(), make_tokenizer(), chat_template=chat_template)


def make_image(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())
