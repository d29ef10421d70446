"""Make small llava-hf checkpoints: the built-in classes with random weights, under old and new key names."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaProcessor,
)
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

from tiny import make_tokenizer


SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
SIDE, PATCH = 28, 14
PINPOINTS = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]
ONE_WAY_PINPOINTS = [[28, 56], [56, 56], [84, 28]]  # (height, width): not its own transpose


def write_builtin(
    folder: Path, kind: str = "llava", *, nesting: str = "new", do_pad: bool = False, pinpoints: Any = PINPOINTS
) -> tuple[Any, Any]:
    """Writes a checkpoint of built-in `llava`, `llava_next` or `llava_onevision`; returns its model and processor."""
    torch.manual_seed(0)
    onevision = kind == "llava_onevision"
    vision = {
        "model_type": "siglip_vision_model" if onevision else "clip_vision_model",
        "image_size": SIDE,
        "patch_size": PATCH,
    }
    vision |= SIZES | ({"vision_use_head": False} if onevision else {"projection_dim": 8})
    text = {"model_type": "qwen2" if onevision else "llama", "num_key_value_heads": 2, "vocab_size": 320, **SIZES}
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    image_id = tokenizer.convert_tokens_to_ids("<image>")
    config_class, model_class = {
        "llava": (LlavaConfig, LlavaForConditionalGeneration),
        "llava_next": (LlavaNextConfig, LlavaNextForConditionalGeneration),
        "llava_onevision": (LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration),
    }[kind]
    fields: dict[str, Any] = {"vision_config": vision, "text_config": text, "image_token_index": image_id}
    if kind != "llava":
        fields["image_grid_pinpoints"] = pinpoints
    if onevision:
        fields["vision_aspect_ratio"] = "anyres_max_2"
    config = config_class(**fields, architectures=[model_class.__name__])
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (1.0 if parameter.dim() == 1 else 0.0))
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    save_file(named(model.state_dict(), nesting), folder / "model.safetensors", metadata={"format": "pt"})
    if onevision:  # its processor needs torchvision: the folder gets the files, the caller its own inputs
        images = LlavaOnevisionImageProcessorPil(size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=pinpoints)
        images.save_pretrained(folder)
        tokenizer.chat_template = TEMPLATE
        tokenizer.save_pretrained(folder)
        return model, images
    processor = _processor(kind, tokenizer, do_pad, pinpoints)
    processor.save_pretrained(folder)
    return model, processor


def named(state: dict[str, torch.Tensor], nesting: str) -> dict[str, torch.Tensor]:
    """Today's key names, or those up to transformers 4.51."""
    if nesting == "new":
        return {key: value.contiguous() for key, value in state.items()}
    old = {}
    for key, value in state.items():
        name = key.removeprefix("model.")
        name = f"language_model.{name}" if name.startswith("lm_head.") else name
        name = (
            name.replace("language_model.", "language_model.model.", 1) if key.startswith("model.language") else name
        )
        name = (
            name.replace("vision_tower.", "vision_tower.vision_model.", 1)
            if name.startswith("vision_tower.")
            else name
        )
        old[name] = value.contiguous()
    return old


def _processor(kind: str, tokenizer: Any, do_pad: bool, pinpoints: Any) -> Any:
    square = {"height": SIDE, "width": SIDE}
    shared = {"tokenizer": tokenizer, "patch_size": PATCH, "chat_template": TEMPLATE}
    shared |= {"vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    sizes = {"size": {"shortest_edge": SIDE}, "crop_size": square}
    if kind == "llava_next":
        return LlavaNextProcessor(
            image_processor=LlavaNextImageProcessorPil(**sizes, image_grid_pinpoints=pinpoints), **shared
        )
    return LlavaProcessor(image_processor=LlavaImageProcessorPil(**sizes, do_pad=do_pad), **shared)


TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>\n' }}{% else %}{{ part['text'] }}{% endif %}{% endfor %} ASSISTANT:"
    "{% endfor %}"
)
