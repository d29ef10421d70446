"""Define the types that travel between the steps of the data: Example, EncodedExample, the error of one record."""

from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

import torch
from datasets import Features, Image, List, Value


IGNORE_INDEX = -100  # a position without a label; the value torch's cross entropy ignores


class ContentPart(TypedDict):
    """One part of a message. An image part says only *where* an image stands; its pixels are in `Example.images`."""

    type: Literal["text", "image"]
    text: NotRequired[str | None]  # None (or absent) for an image part: Arrow fills the missing field with null


class Message(TypedDict):
    """One turn."""

    role: Literal["system", "user", "assistant"]
    content: list[ContentPart]


class ImageReference(TypedDict):
    """An undecoded image: its bytes, or where they are. `path` is a file, or `zip://member::archive`."""

    bytes: bytes | None
    path: str | None


class Example(TypedDict):
    """
    One record of any source format.

    Contract: as many image parts over all messages as `images`, in the same order; image parts only in user turns;
    at most one system turn, first; then user and assistant alternate, starting with user; at least one assistant
    turn, none of them empty.
    """

    id: str
    messages: list[Message]
    images: list[ImageReference]
    source: str


EXAMPLE_FEATURES = Features(
    {
        "id": Value("string"),
        "messages": List(
            {"role": Value("string"), "content": List({"type": Value("string"), "text": Value("string")})}
        ),
        "images": List(Image(decode=False)),
        "source": Value("string"),
    }
)


class RecordError(ValueError):
    """
    One record cannot be used.

    Args:
        reason (`str`):
            Short stable word under which reports count it, e.g. `missing_image`.
        message (`str`):
            Cause, consequence, remedy, and the offending value.
        record_id (`str`):
            The record's id, with its source where known.
    """

    def __init__(self, reason: str, message: str, *, record_id: str = "?") -> None:
        super().__init__(f"record '{record_id}': {message}")
        self.reason = reason
        self.record_id = record_id
        self.message = message

    def with_record_id(self, record_id: str) -> "RecordError":
        """The same error, now that the name of the record is known."""
        return RecordError(self.reason, self.message, record_id=record_id)

    def __reduce__(self) -> tuple[Any, ...]:  # keyword-only arguments need help to cross process borders
        return (_rebuild_record_error, (self.reason, self.message, self.record_id))


def _rebuild_record_error(reason: str, message: str, record_id: str) -> RecordError:
    return RecordError(reason, message, record_id=record_id)


@dataclass
class EncodedExample:
    """What a model sees of one example. T counts the tokens after image expansion."""

    input_ids: torch.Tensor  # (T,) int64
    labels: torch.Tensor  # (T,) int64, IGNORE_INDEX where unsupervised
    pixel_values: torch.Tensor | None  # (num_tiles, 3, H, W), all tiles of all images in order
    image_sizes: torch.Tensor | None  # (num_images, 2), (height, width) of the original images
    id: str
    source: str


__all__ = [
    "ContentPart",
    "EXAMPLE_FEATURES",
    "EncodedExample",
    "Example",
    "IGNORE_INDEX",
    "ImageReference",
    "Message",
    "RecordError",
]
