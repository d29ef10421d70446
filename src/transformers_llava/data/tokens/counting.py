"""Count the tokens of examples, without decoding a pixel."""

import hashlib
from typing import Any, NamedTuple

from transformers_llava.data.images.opening import image_size
from transformers_llava.data.schema import Example, ImageReference, RecordError
from transformers_llava.data.tokens.chat_rendering import (
    Rendered,
    chat_template_of,
    encode_rendered,
    render_marked,
    writes_control_tokens,
)
from transformers_llava.data.tokens.encoding import encode_text, images_kwargs_of, label_and_cut
from transformers_llava.data.tokens.policy import DEFAULT_POLICY, EncodingPolicy


class ExampleLength(NamedTuple):
    """What the packer needs to know of an example."""

    num_tokens: int
    has_image: bool


def count_tokens(example: Example, processor: Any, policy: EncodingPolicy = DEFAULT_POLICY) -> int:
    """
    Tokens of an example after image expansion, before any cut.

    Contract: equal to `len(encode_example(example, processor, policy).input_ids)` where nothing is cut, but only the
    headers of the images are read.
    """
    return TokenCounter(processor, policy).count(example)[0]


def measure_example(example: Example, processor: Any, policy: EncodingPolicy = DEFAULT_POLICY) -> ExampleLength:
    """`count_tokens`, and whether there is an image."""
    return ExampleLength(count_tokens(example, processor, policy), bool(example["images"]))


class TokenCounter:
    """
    Processor and policy, ready to look at one example after another.

    With `look_at_images=False` no header is read where every image costs the same, as without tiles; that an image
    is missing is then found when it is opened.
    """

    def __init__(
        self,
        processor: Any,
        policy: EncodingPolicy = DEFAULT_POLICY,
        *,
        look_at_images: bool = True,
    ) -> None:
        self.processor, self.policy = processor, policy
        self.template = chat_template_of(processor, policy.template)
        self.fixed_cost: int | None = None
        if not look_at_images and not processor.tiling_rule().is_tiled:
            self.fixed_cost = processor.num_image_tokens(1, 1)
        self.cost_of_path: dict[tuple[str, bool], int] = {}  # many records share an image

    def count(self, example: Example) -> tuple[int, bool]:
        """Tokens before any cut, and whether the template wrote anything for the assistant."""
        tokenizer = self.processor.tokenizer
        rendered = render_marked(example, tokenizer, self.template)
        if writes_control_tokens(example, tokenizer):
            ids, _ = encode_rendered(Rendered(rendered.text, []), tokenizer)
        else:
            ids = _ids_alone(tokenizer.backend_tokenizer, rendered.text)
        num_tokens = len(ids) + sum(cost - 1 for cost in self.image_costs(example))
        return num_tokens, any(start < end for start, end in rendered.spans)

    def outcome(self, example: Example) -> tuple[int, str | None, str | None]:
        """Tokens before any cut, and why the example cannot be used, if so: reason and message."""
        num_tokens = 0
        name = f"{example['source']}/{example['id']}"
        try:
            num_tokens, is_supervised = self.count(example)
            limit = self.policy.max_length
            is_over_long = limit is not None and num_tokens > limit
            if is_over_long and self.policy.too_long != "truncate_text":
                raise RecordError(
                    "too_long",
                    f"it has {num_tokens} tokens, more than max_length={limit}. Raise max_length or shorten "
                    "the text; the policy `truncate_text` would cut it.",
                    record_id=name,
                )
            if is_over_long or not is_supervised:
                ids, mask = encode_text(example, self.processor, self.image_costs(example), template=self.template)
                label_and_cut(ids, mask, self.processor.image_token_id, self.policy, name=name)
        except RecordError as error:
            return num_tokens, error.reason, error.message
        return num_tokens, None, None

    def image_costs(self, example: Example) -> list[int]:
        try:
            images_kwargs = images_kwargs_of(len(example["images"]), self.processor, self.policy.several_images)
            return [self._cost(reference, images_kwargs) for reference in example["images"]]
        except RecordError as error:
            raise error.with_record_id(f"{example['source']}/{example['id']}") from error

    def _cost(self, reference: ImageReference, images_kwargs: dict[str, Any]) -> int:
        if self.fixed_cost is not None:
            return self.fixed_cost
        key = (reference["path"], bool(images_kwargs)) if reference["bytes"] is None and reference["path"] else None
        cost = self.cost_of_path.get(key) if key is not None else None
        if cost is None:
            cost = self.processor.num_image_tokens(*image_size(reference), **images_kwargs)
            if key is not None:
                self.cost_of_path[key] = cost
        return cost

    def fingerprint(self, content: str) -> str:
        """Changes when anything does that decides a count."""
        processor = self.processor
        parts = [
            content,
            self.template,
            processor.tokenizer.backend_tokenizer.to_str(),
            str(sorted(processor.tokenizer.special_tokens_map.items())),
            str(processor.tiling_rule()),
            f"{self.policy.max_length} {self.policy.too_long} {self.policy.several_images}",
        ]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _ids_alone(backend: Any, text: str) -> list[int]:
    """What the tokenizer makes of a text, without the offsets that nobody reads here: a third faster."""
    backend.no_truncation()  # as an earlier call may have left it
    backend.no_padding()
    backend.encode_special_tokens = False
    return backend.encode_batch_fast([text], add_special_tokens=False)[0].ids


__all__ = ["ExampleLength", "TokenCounter", "count_tokens", "measure_example"]
