"""Collate examples into batches: padded rows, or one packed row. The contract of a batch stands here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from PIL import Image

from transformers_llava.data.schema import IGNORE_INDEX, EncodedExample, Example, RecordError
from transformers_llava.data.tokens.encoding import encode_example
from transformers_llava.data.tokens.policy import DEFAULT_POLICY, EncodingPolicy


SUPERVISED_NAMES = ("shift_labels", "supervised_positions")  # what `add_supervised_positions` adds

RejectRecord = Callable[[RecordError], None]


@dataclass
class _Collator:
    """What both collators are given, and what both do with each example."""

    processor: Any
    policy: EncodingPolicy = DEFAULT_POLICY
    _: KW_ONLY
    on_error: RejectRecord | None = None

    def encode(self, example: Example) -> EncodedExample | None:
        """One example, or `None` where `on_error` was told why not."""
        try:
            return encode_example(example, self.processor, self.policy)
        except RecordError as error:
            if self.on_error is None:
                raise
            self.on_error(error)
            return None

    def pixels(self, encoded: Sequence[EncodedExample]) -> dict[str, Any]:
        """`pixel_values`, `image_sizes` and `num_tiles` of a batch, as far as it has them."""
        pixel_values = [example.pixel_values for example in encoded if example.pixel_values is not None]
        image_sizes = [example.image_sizes for example in encoded if example.image_sizes is not None]
        if not pixel_values:
            return {}
        pixels: dict[str, Any] = {
            "pixel_values": torch.cat(pixel_values),
            "image_sizes": [tuple(size) for size in torch.cat(image_sizes).tolist()],
        }
        if self.policy.several_images == "one_tile" and self.processor.tiling_rule().is_tiled:
            pixels["num_tiles"] = [count for example in encoded for count in _tiles_of_images(example)]
        return pixels


@dataclass
class PaddedCollator(_Collator):
    """
    Examples to one row each, padded on the right.

    Contract: `input_ids`, `labels`, `attention_mask` (B, T); `shift_labels` and `supervised_positions`, see
    [`add_supervised_positions`]; `pixel_values` (num_tiles, 3, H, W) of all images in order and `image_sizes`, one
    (height, width) of ints per image, which the host would wait for if they were on a device; both absent when no
    example has an image; `num_tiles`, a list of one int per image, where `several_images` makes them differ in
    rule.

    Args:
        processor (`OpenLlavaProcessor`):
            Encodes text and images.
        policy (`EncodingPolicy`, *optional*):
            See `encode_example`. With `several_images="one_tile"` on a tiled checkpoint the batch also says the
            `num_tiles` of each image, because some are whole and some are cut.
        on_error (`Callable`, *optional*):
            Told the `RecordError` of an example that cannot be encoded, which is then left out. Without it the error
            is raised. A batch of which nothing is left is one black image without labels.
        always_image (`bool`, *optional*, defaults to `False`):
            Append a row without any label that only holds a black image when no example has one, so that the tower
            and the projector take part in every step on every rank.
        mask_answers_with (`str`, *optional*):
            An example with this text in an answer gets no label, as where the original loses count.
    """

    always_image: bool = False
    mask_answers_with: str | None = None

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        encoded = [row for example in examples if (row := self.encode(example)) is not None]
        is_text_alone = all(example.pixel_values is None for example in encoded)
        if not encoded or (self.always_image and is_text_alone):
            encoded.append(image_only_document(self.processor))
        lengths = torch.tensor([len(example.input_ids) for example in encoded])
        pad_token_id = self.processor.tokenizer.pad_token_id or 0  # any id: the mask decides, not the id

        def pad(rows: list[torch.Tensor], value: int) -> torch.Tensor:
            return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)

        return add_supervised_positions(
            {
                "input_ids": pad([example.input_ids for example in encoded], pad_token_id),  # (B, T)
                "labels": pad([example.labels for example in encoded], IGNORE_INDEX),  # (B, T)
                "attention_mask": (torch.arange(int(lengths.max()))[None] < lengths[:, None]).long(),  # (B, T)
                **self.pixels(encoded),
            }
        )

    def encode(self, example: Example) -> EncodedExample | None:
        encoded = super().encode(example)
        if encoded is not None and self.mask_answers_with is not None and _says(example, self.mask_answers_with):
            encoded.labels = torch.full_like(encoded.labels, IGNORE_INDEX)
        return encoded


@dataclass
class PackedCollator(_Collator):
    """
    Examples to one row without padding.

    Contract: `input_ids`, `labels`, `position_ids` (1, T), positions restarting at 0 with every example;
    `shift_labels` and `supervised_positions`, see [`add_supervised_positions`]; `cu_seq_lens_q`, `cu_seq_lens_k`
    (num_documents + 1,) int32; `max_length_q`, `max_length_k` int; `pixel_values` and `image_sizes` as in the padded
    batch, but always there: a pack without an image gets one more document, a black image without labels. Never an
    `attention_mask`: with one, transformers would not separate the documents. The first label of every document is
    ignored, because the shift by one would predict it from the document before.

    Five numbers: documents of 3 and 2 tokens give position_ids [0, 1, 2, 0, 1] and cu_seq_lens [0, 3, 5].

    Args:
        processor, policy, on_error: as for `PaddedCollator`.
    """

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        encoded = [document for example in examples if (document := self.encode(example)) is not None]
        if all(example.pixel_values is None for example in encoded):
            encoded.append(image_only_document(self.processor))
        lengths = [len(example.input_ids) for example in encoded]
        position_ids = torch.cat([torch.arange(length) for length in lengths])  # (T,)
        labels = torch.cat([example.labels for example in encoded])  # (T,)
        labels[position_ids == 0] = IGNORE_INDEX
        cu_seq_lens = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
        return add_supervised_positions(
            {
                "input_ids": torch.cat([example.input_ids for example in encoded])[None],  # (1, T)
                "labels": labels[None],  # (1, T)
                "position_ids": position_ids[None],  # (1, T)
                "cu_seq_lens_q": cu_seq_lens,  # (num_documents + 1,)
                "cu_seq_lens_k": cu_seq_lens,
                "max_length_q": max(lengths),
                "max_length_k": max(lengths),
                **self.pixels(encoded),
            }
        )


def add_supervised_positions(batch: Mapping[str, Any]) -> dict[str, Any]:
    """
    The batch and where its loss is computed, so that the head sees those hidden states alone.

    Five numbers: labels [-100, -100, 7, -100, 8] give supervised_positions [1, 3] and shift_labels [[7, 8]].

    Args:
        batch (`Mapping`): With `labels` (B, T).

    Returns:
        `dict`: Also `supervised_positions` (S,), of the B * T positions in a row those whose next token has a label,
        and `shift_labels` (1, S), those labels. S is at least 1: where nothing is supervised it is position 0 with
        the label -100, so that the head takes part in every step with a gradient of 0.
    """
    targets = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORE_INDEX).flatten()  # (B * T,)
    positions = (targets != IGNORE_INDEX).nonzero()[:, 0]  # (S,)
    if len(positions) == 0:
        positions = torch.zeros(1, dtype=torch.long)
    return {**batch, "shift_labels": targets[positions][None], "supervised_positions": positions}


def image_only_document(processor: Any) -> EncodedExample:
    """A black image that is never supervised: it keeps the vision path alive in a batch of text."""
    image = Image.new("RGB", (32, 32))
    num_tokens = processor.num_image_tokens(image.width, image.height)
    return EncodedExample(
        input_ids=torch.full((num_tokens,), processor.image_token_id),
        labels=torch.full((num_tokens,), IGNORE_INDEX),
        pixel_values=processor.image_processor([image], return_tensors="pt")["pixel_values"],
        image_sizes=torch.tensor([[image.height, image.width]]),
        id="image_only_document",
        source="",
    )


def _says(example: Example, text: str) -> bool:
    answers = [message for message in example["messages"] if message["role"] == "assistant"]
    return any(text in (part.get("text") or "") for message in answers for part in message["content"])


def _tiles_of_images(example: EncodedExample) -> list[int]:
    """Several images are one tile each; a single one has them all (and none has none)."""
    if example.pixel_values is None or example.image_sizes is None:
        return []
    num_images = len(example.image_sizes)
    return [1] * num_images if num_images > 1 else [len(example.pixel_values)]


__all__ = [
    "PackedCollator",
    "PaddedCollator",
    "RejectRecord",
    "SUPERVISED_NAMES",
    "add_supervised_positions",
    "image_only_document",
]
