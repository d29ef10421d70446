"""Encode an Example with a processor: token ids, labels of the assistant's tokens, pixels."""

from typing import Any

import torch
from PIL import Image

from transformers_llava.data.images.opening import open_image
from transformers_llava.data.schema import IGNORE_INDEX, EncodedExample, Example, RecordError
from transformers_llava.data.tokens.chat_rendering import (
    chat_template_of,
    encode_rendered,
    render_marked,
    to_conversation,
    writes_control_tokens,
)
from transformers_llava.data.tokens.policy import DEFAULT_POLICY, EncodingPolicy, SeveralImages


def encode_example(example: Example, processor: Any, policy: EncodingPolicy = DEFAULT_POLICY) -> EncodedExample:
    """
    Encode one example for training.

    One call of the chat template gives ids and labels: what the template marks with `{% generation %}` (answers and
    the token that ends them) is supervised, everything else, and every image token, is not. The template writes BOS.
    A special token that a user typed, `</s>` or an `<image>` that marks no image, is encoded as the text it is.

    Args:
        example (`Example`):
            The example; its images are decoded here.
        processor (`OpenLlavaProcessor`):
            Tokenizer, image processor and token counts.
        policy (`EncodingPolicy`, *optional*):
            Template, most tokens, and what becomes of an example with more, or with several images.

    Raises:
        `RecordError`: an image cannot be read; `too_long`; `no_supervised_token`.
    """
    chat_template = chat_template_of(processor, policy.template)
    name = f"{example['source']}/{example['id']}"
    try:
        images = [open_image(reference) for reference in example["images"]]
    except RecordError as error:
        raise error.with_record_id(name) from error
    images_kwargs = images_kwargs_of(len(images), processor, policy.several_images)
    if writes_control_tokens(example, processor.tokenizer):
        costs = [processor.num_image_tokens(image.width, image.height, **images_kwargs) for image in images]
        input_ids, is_supervised = encode_text(example, processor, costs, template=chat_template)
        pixel_values = None
        if images:
            pixel_values = processor.image_processor(images, return_tensors="pt", **images_kwargs)["pixel_values"]
    else:
        input_ids, is_supervised, pixel_values = _encode_in_one_call(
            example, images, processor, chat_template, images_kwargs
        )
    input_ids, labels = label_and_cut(input_ids, is_supervised, processor.image_token_id, policy, name=name)
    sizes = torch.tensor([(image.height, image.width) for image in images]) if images else None  # (num_images, 2)
    return EncodedExample(input_ids, labels, pixel_values, sizes, example["id"], example["source"])


def images_kwargs_of(num_images: int, processor: Any, several_images: SeveralImages) -> dict[str, Any]:
    """What the processor is told about the images of one example."""
    if several_images == "one_tile" and num_images > 1 and processor.tiling_rule().is_tiled:
        return {"image_aspect_ratio": "pad"}
    return {}


def encode_text(
    example: Example, processor: Any, image_costs: list[int], *, template: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Tokens of an example whose images cost `image_costs`, and which of them the assistant wrote; no pixel is needed.

    Contract: equal to what the processor makes of the example, which a test compares. It is used where the processor
    cannot be: for typed control tokens, and to know the tokens of an example without opening its images.

    Returns:
        `(torch.Tensor, torch.Tensor)`: ids (T,) and a mask (T,).
    """
    ids, is_assistant = encode_rendered(render_marked(example, processor.tokenizer, template), processor.tokenizer)
    if ids.count(processor.image_token_id) != len(image_costs):
        raise ValueError(
            f"the template wrote {ids.count(processor.image_token_id)} image tokens for {len(image_costs)} images "
            f"of '{example['source']}/{example['id']}'. Pixels and text would be misaligned. Correct the template."
        )
    costs = iter(image_costs)
    repeats = torch.tensor(
        [next(costs) if token == processor.image_token_id else 1 for token in ids], dtype=torch.long
    )
    # (T,): each image token as often as its image costs
    return (
        torch.tensor(ids, dtype=torch.long).repeat_interleave(repeats),
        torch.tensor(is_assistant, dtype=torch.bool).repeat_interleave(repeats),
    )


def label_and_cut(
    input_ids: torch.Tensor,
    is_supervised: torch.Tensor,
    image_token_id: int,
    policy: EncodingPolicy,
    *,
    name: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels of at most `policy.max_length` tokens, or a `RecordError`: `too_long`, `no_supervised_token`."""
    is_image, max_length = input_ids == image_token_id, policy.max_length
    labels = torch.where(is_supervised & ~is_image, input_ids, IGNORE_INDEX)
    if max_length is not None and len(input_ids) > max_length:
        _check_cut(is_image, max_length, policy, name)
        input_ids, labels = input_ids[:max_length], labels[:max_length]
    if not bool((labels != IGNORE_INDEX).any()):
        raise RecordError(
            "no_supervised_token",
            "not one of its tokens is supervised, so training on it would change nothing. Check that the answer is "
            f"not cut off (max_length={max_length}) and that the chat template marks answers with {{% generation %}}.",
            record_id=name,
        )
    return input_ids, labels


_Tokens = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]  # ids (T,), supervised (T,) bool, pixels


def _encode_in_one_call(
    example: Example, images: list[Image.Image], processor: Any, template: str, images_kwargs: dict[str, Any]
) -> _Tokens:
    conversation = to_conversation(example)
    remaining = iter(images)
    for message in conversation:
        for part in message["content"]:
            if part["type"] == "image":
                part["image"] = next(remaining)
    outputs = processor.apply_chat_template(
        [conversation],
        chat_template=template,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        # Lists, not tensors: transformers finds the mask by walking over the offsets one by one, which takes 26 ms for
        # the 800 tokens of an example if they are a tensor, and 1 ms if they are a list.
        return_tensors=None,
        processor_kwargs={"add_special_tokens": False, **images_kwargs},
    )
    pixel_values = outputs.get("pixel_values")
    return (
        torch.tensor(outputs["input_ids"][0], dtype=torch.long),
        torch.tensor(outputs["assistant_masks"][0], dtype=torch.bool),
        None if pixel_values is None else _stack(pixel_values),
    )


def _stack(tiles: Any) -> torch.Tensor:
    """(num_tiles, 3, H, W) from what an image processor returns: an array, a tensor, or a list of either."""
    if isinstance(tiles, list):
        return torch.stack([torch.as_tensor(tile) for tile in tiles])
    return torch.as_tensor(tiles)


def _check_cut(is_image: torch.Tensor, max_length: int, policy: EncodingPolicy, name: str) -> None:
    if policy.too_long == "truncate_text" and not bool(is_image[max_length:].any()):
        return
    what = "cutting it would cut an image" if policy.too_long == "truncate_text" else "the policy is to refuse it"
    raise RecordError(
        "too_long",
        f"it has {len(is_image)} tokens, more than max_length={max_length}, and {what}. "
        "Raise max_length, shorten the text, or drop such records when the mixture is built.",
        record_id=name,
    )


__all__ = ["encode_example", "encode_text", "images_kwargs_of", "label_and_cut"]
