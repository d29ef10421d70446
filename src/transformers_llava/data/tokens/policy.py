"""Say how examples become tokens: by which template, how many at most, and what several images of one cost."""

from dataclasses import dataclass
from typing import Literal


TooLong = Literal["truncate_text", "drop", "error"]
SeveralImages = Literal["tiles", "one_tile"]

_TOO_LONG = ("error", "drop", "truncate_text")
_SEVERAL_IMAGES = ("tiles", "one_tile")


@dataclass(frozen=True)
class EncodingPolicy:
    """
    How examples become tokens, the same wherever they are counted, encoded and collated.

    Args:
        max_length (`int`, *optional*):
            Most tokens of an example, image tokens included.
        too_long (`str`, *optional*, defaults to `"truncate_text"`):
            What happens above it: `truncate_text` cuts the end, and refuses what cannot be cut without losing part of
            an image or the whole answer; `drop` leaves the example out of a data set; `error` stops there.
        several_images (`str`, *optional*, defaults to `"tiles"`):
            On a tiled checkpoint: `tiles` cuts every image into tiles, `one_tile` shows each image of an example with
            several as one padded tile, as LLaVA-NeXT is trained. Elsewhere it changes nothing.
        template (`str`, *optional*):
            Chat template (Jinja) instead of the processor's own.

    Raises:
        `ValueError`: a value is none of these, or no token would be left.
    """

    max_length: int | None = None
    too_long: TooLong = "truncate_text"
    several_images: SeveralImages = "tiles"
    template: str | None = None

    def __post_init__(self) -> None:
        if self.too_long not in _TOO_LONG:
            raise ValueError(f"too_long must be error, drop or truncate_text, not {self.too_long!r}.")
        if self.max_length is not None and self.max_length < 1:
            raise ValueError(
                f"max_length={self.max_length} leaves no token of any example. Use at least 1, or leave it out."
            )
        if self.several_images not in _SEVERAL_IMAGES:
            raise ValueError(f"several_images must be 'tiles' or 'one_tile', not {self.several_images!r}.")


DEFAULT_POLICY = EncodingPolicy()  # whole examples, by the processor's own template


__all__ = ["DEFAULT_POLICY", "EncodingPolicy", "SeveralImages", "TooLong"]
