"""Examples to token counts, without decoding a pixel."""

from typing import Any, NamedTuple

from transformers_llava.data.images import image_size
from transformers_llava.data.rendering import (
    Rendered,
    chat_template_of,
    encode_rendered,
    render_marked,
    writes_control_tokens,
)
from transformers_llava.data.schema import Example, RecordError


class ExampleLength(NamedTuple):
    """What the packer needs to know of an example."""

    num_tokens: int
    has_image: bool


def count_tokens(example: Example, processor: Any, *, template: str | None = None) -> int:
    """
    Tokens of an example after image expansion.

    Contract: equal to `len(encode_example(example, processor, template=template).input_ids)`, but only the headers of
    the pictures are read.
    """
    tokenizer = processor.tokenizer
    rendered = render_marked(example, tokenizer, chat_template_of(processor, template))
    if writes_control_tokens(example, tokenizer):
        ids, _ = encode_rendered(Rendered(rendered.text, []), tokenizer)
    else:
        ids = tokenizer(rendered.text, add_special_tokens=False)["input_ids"]
    return len(ids) + sum(cost - 1 for cost in image_costs(example, processor))


def image_costs(example: Example, processor: Any) -> list[int]:
    """Tokens of each picture, from the sizes in the file headers."""
    try:
        return [processor.num_image_tokens(*image_size(reference)) for reference in example["images"]]
    except RecordError as error:
        raise error.of(f"{example['source']}/{example['id']}") from error


def measure_example(example: Example, processor: Any, *, template: str | None = None) -> ExampleLength:
    return ExampleLength(count_tokens(example, processor, template=template), bool(example["images"]))


__all__ = ["ExampleLength", "count_tokens", "image_costs", "measure_example"]
