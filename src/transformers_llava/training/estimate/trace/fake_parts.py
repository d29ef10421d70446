"""Build the model, processor and batches of a recipe with every shape and no number, on torch's fake tensors."""

from typing import Any

import torch
from peft import get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from transformers import PreTrainedTokenizerFast

from transformers_llava.data.batches.collators import PackedCollator, PaddedCollator
from transformers_llava.data.schema import IGNORE_INDEX, EncodedExample
from transformers_llava.modeling.configuration_open_llava import OpenLlavaConfig
from transformers_llava.modeling.modeling_open_llava import OpenLlavaForConditionalGeneration
from transformers_llava.modeling.packs.document_probe import mark_as_probed
from transformers_llava.modeling.processing_open_llava import OpenLlavaProcessor
from transformers_llava.training.estimate.recipe_shapes import TYPICAL_IMAGE, DataShape, plan_config
from transformers_llava.training.estimate.trace.four_bit import replace_by_four_bit_shapes
from transformers_llava.training.model.assembly import IMAGE_TOKEN
from transformers_llava.training.model.components import apply_component_config, lora_config
from transformers_llava.training.recipe.recipe import Recipe


def fake_model(recipe: Recipe, mode: FakeTensorMode) -> nn.Module:
    """
    The model as `llava train` hands it to its trainer: components frozen, cast and given low-rank updates.

    It is built on the meta device, where peft and transformers build anything, and its tensors are then declared to
    lie on a CPU: a build of torch without CUDA refuses fake tensors of a GPU as soon as an operator is made of others.
    """
    with torch.device("meta"):
        model: Any = OpenLlavaForConditionalGeneration._from_config(
            plan_config(recipe.model),
            dtype=torch.float32,
            attn_implementation=recipe.model.attn_implementation,
        )
        half = torch.bfloat16 if recipe.sft.bf16 else torch.float16 if recipe.sft.fp16 else None
        apply_component_config(model, recipe.components, frozen_dtype=half)
        mark_as_probed(model.model.language_model)
        if recipe.components["language_model"].quantization is not None:
            replace_by_four_bit_shapes(model.model.language_model, half or torch.float32)
        adapters = lora_config(model, recipe.components)
        if adapters is not None:
            model = get_peft_model(model, adapters)
    seen: dict[int, nn.Parameter] = {}  # tied weights stay one
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                if id(parameter) not in seen:
                    tensor = FakeTensor(mode, parameter.data, torch.device("cpu"))
                    seen[id(parameter)] = nn.Parameter(tensor, requires_grad=parameter.requires_grad)
                module._parameters[name] = seen[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = FakeTensor(mode, buffer.to("meta"), torch.device("cpu"))
    return model


def fake_processor(config: OpenLlavaConfig) -> OpenLlavaProcessor:
    """A processor whose words mean nothing, with `<image>` where the model has it."""
    words = {f"word{index}": index for index in range(config.image_token_id)}
    vocabulary = WordLevel({**words, IMAGE_TOKEN: config.image_token_id}, unk_token="word0")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(vocabulary),
        unk_token="word0",
        eos_token="word0",
        pad_token="word0",
        additional_special_tokens=[IMAGE_TOKEN],
    )
    return OpenLlavaProcessor.from_model_config(
        config, tokenizer, image_processor=None, chat_template=None, image_token=IMAGE_TOKEN
    )


def typical_examples(num_examples: int, data: DataShape, config: OpenLlavaConfig) -> list[EncodedExample]:
    """Examples of mean length, as many of them with an image as the data have on average, rounded up."""
    num_text, num_labels = round(data.text_tokens), max(1, round(data.label_tokens))
    num_with_image = -int(-num_examples * data.image_share // 1)
    side = config.vision_config.image_size
    width, height = TYPICAL_IMAGE
    examples = []
    for index in range(num_examples):
        has_image = index < num_with_image
        num_tokens = num_text + (data.image_tokens if has_image else 0)
        input_ids = torch.zeros(num_tokens, dtype=torch.long)
        input_ids[: data.image_tokens if has_image else 0] = config.image_token_id
        labels = torch.full_like(input_ids, IGNORE_INDEX)
        labels[max(1, num_tokens - num_labels) :] = 1
        examples.append(
            EncodedExample(
                input_ids=input_ids,
                labels=labels,
                pixel_values=torch.zeros(data.tiles, 3, side, side) if has_image else None,
                image_sizes=torch.tensor([[height, width]]) if has_image else None,
                id=f"example{index}",
                source="",
            )
        )
    return examples


def fake_batch(batch: dict[str, Any], mode: FakeTensorMode) -> dict[str, Any]:
    """What a collator gave, without its numbers."""
    return {
        name: mode.from_tensor(value) if isinstance(value, torch.Tensor) else value for name, value in batch.items()
    }


def collate_encoded(examples: list[EncodedExample], processor: OpenLlavaProcessor, *, packed: bool) -> dict[str, Any]:
    """The batch that the recipe's own collator makes of examples that are encoded already."""
    collator = (_Packed if packed else _Padded)(processor)
    return collator(examples)  # type: ignore[arg-type]


class _Encoded:
    """Takes encoded examples in place of records."""

    def encode(self, example: Any) -> EncodedExample:
        return example


class _Packed(_Encoded, PackedCollator): ...


class _Padded(_Encoded, PaddedCollator): ...


__all__ = [
    "collate_encoded",
    "fake_batch",
    "fake_model",
    "fake_processor",
    "typical_examples",
]
