"""Example and processor to EncodedExample: token ids, labels of the assistant's tokens, pixels."""

from typing import Any, Literal

import torch
from PIL import Image

from transformers_llava.data.images import open_image
from transformers_llava.data.rendering import (
    chat_template_of,
    encode_rendered,
    render_marked,
    to_conversation,
    writes_control_tokens,
)
from transformers_llava.data.schema import IGNORE_INDEX, EncodedExample, Example, RecordError


TooLongPolicy = Literal["error", "truncate_text"]


def encode_example(
    example: Example,
    processor: Any,
    *,
    max_length: int | None = None,
    template: str | None = None,
    too_long: TooLongPolicy = "truncate_text",
) -> EncodedExample:
    """
    Encode one example for training.

    One call of the chat template gives ids and labels: what the template marks with `{% generation %}` (answers and
    the token that ends them) is supervised, everything else, and every image token, is not. The template writes BOS.
    A special token that a person typed, `</s>` or an `<image>` that is no picture, is encoded as the text it is.

    Args:
        example (`Example`):
            The example; its pictures are decoded here.
        processor (`OpenLlavaProcessor`):
            Tokenizer, image processor and token counts.
        max_length (`int`, *optional*):
            Most tokens, image tokens included.
        template (`str`, *optional*):
            Chat template (Jinja) instead of the processor's own.
        too_long (`str`, *optional*, defaults to `"truncate_text"`):
            `truncate_text` cuts the end, never into or before an image; `error` refuses.

    Raises:
        `RecordError`: a picture cannot be read; `too_long`; `no_supervised_token`.
    """
    chat_template = chat_template_of(processor, template)
    name = f"{example['source']}/{example['id']}"
    try:
        images = [open_image(reference) for reference in example["images"]]
    except RecordError as error:
        raise error.of(name) from error
    if writes_control_tokens(example, processor.tokenizer):
        input_ids, is_supervised, pixel_values = _encode_with_typed_control_tokens(
            example, images, processor, chat_template
        )
    else:
        input_ids, is_supervised, pixel_values = _encode_in_one_call(example, images, processor, chat_template)
    is_image = input_ids == processor.image_token_id
    labels = torch.where(is_supervised & ~is_image, input_ids, IGNORE_INDEX)
    if max_length is not None and len(input_ids) > max_length:
        _check_cut(is_image, max_length, too_long, name)
        input_ids, labels = input_ids[:max_length], labels[:max_length]
    if not bool((labels != IGNORE_INDEX).any()):
        raise RecordError(
            "no_supervised_token",
            "not one of its tokens is supervised, so training on it would change nothing. Check that the answer is "
            f"not cut off (max_length={max_length}) and that the chat template marks answers with {{% generation %}}.",
            record_id=name,
        )
    sizes = torch.tensor([(image.height, image.width) for image in images]) if images else None  # (num_images, 2)
    return EncodedExample(input_ids, labels, pixel_values, sizes, example["id"], example["source"])


_Tokens = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]  # ids (T,), supervised (T,) bool, pixels


def _encode_in_one_call(example: Example, images: list[Image.Image], processor: Any, template: str) -> _Tokens:
    conversation = to_conversation(example)
    pictures = iter(images)
    for message in conversation:
        for part in message["content"]:
            if part["type"] == "image":
                part["image"] = next(pictures)
    outputs = processor.apply_chat_template(
        [conversation],
        chat_template=template,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        return_assistant_tokens_mask=True,
        processor_kwargs={"add_special_tokens": False},
    )
    return outputs["input_ids"][0], outputs["assistant_masks"][0].bool(), outputs.get("pixel_values")


def _encode_with_typed_control_tokens(
    example: Example, images: list[Image.Image], processor: Any, template: str
) -> _Tokens:
    rendered = render_marked(example, processor.tokenizer, template)
    ids, is_assistant = encode_rendered(rendered, processor.tokenizer)
    costs = [processor.num_image_tokens(image.width, image.height) for image in images]
    if ids.count(processor.image_token_id) != len(images):
        raise ValueError(
            f"the chat template wrote {ids.count(processor.image_token_id)} image tokens for {len(images)} images of "
            f"'{example['source']}/{example['id']}'. Pixels and text would be misaligned. Correct the template."
        )
    remaining = iter(costs)
    repeats = torch.tensor([next(remaining) if token == processor.image_token_id else 1 for token in ids])
    input_ids = torch.tensor(ids).repeat_interleave(repeats)  # (T,): each image token as often as its picture costs
    is_supervised = torch.tensor(is_assistant).repeat_interleave(repeats)
    pixels = processor.image_processor(images, return_tensors="pt")["pixel_values"] if images else None
    return input_ids, is_supervised, pixels


def _check_cut(is_image: torch.Tensor, max_length: int, too_long: TooLongPolicy, name: str) -> None:
    if too_long == "truncate_text" and not bool(is_image[max_length:].any()):
        return
    what = "cutting it would cut an image" if too_long == "truncate_text" else "the policy is to refuse it"
    raise RecordError(
        "too_long",
        f"it has {len(is_image)} tokens, more than max_length={max_length}, and {what}. "
        "Raise max_length, shorten the text, or drop such records when the mixture is built.",
        record_id=name,
    )


__all__ = ["TooLongPolicy", "encode_example"]
