"""Describe the shape of a document that somebody else wrote, and name the field of it that does not fit."""

import math
import re
from collections.abc import Callable
from typing import Any


Shape = Callable[[Any, str], None]  # of a value and the name of its field; raises `ShapeError`

_LARGEST = 2**63  # a float can still hold it


class ShapeError(ValueError):
    """A field is missing, or holds another kind of value than it must; names the field and shows the value."""


def anything(value: Any, name: str) -> None:
    """Accepts what JSON can say."""


def line(limit: int = 500) -> Shape:
    """A text of one line without control or invisible characters: it may stand in a comment, a table, a message."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, str) or not 0 < len(value) <= limit or not value.isprintable():
            raise ShapeError(f"`{name}` is {shown(value)}; it must be one line of text, at most {limit} characters.")

    return check


def text(limit: int) -> Shape:
    """A text of any number of lines."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, str) or len(value) > limit or "\0" in value:
            raise ShapeError(f"`{name}` is {shown(value)}; it must be text of at most {limit:,} characters.")

    return check


def matching(pattern: str, meaning: str) -> Shape:
    """A text that a regular expression describes from its first to its last character."""
    compiled = re.compile(pattern)

    def check(value: Any, name: str) -> None:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ShapeError(f"`{name}` is {shown(value)}; it must be {meaning}.")

    return check


def one_of(*allowed: str) -> Shape:
    """One of a few words."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, str) or value not in allowed:
            raise ShapeError(f"`{name}` is {shown(value)}; it must be one of {', '.join(allowed)}.")

    return check


def whole(least: int = 0, most: int = _LARGEST) -> Shape:
    """A whole number."""

    def check(value: Any, name: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ShapeError(f"`{name}` is {shown(value)}; it must be a whole number from {least} to {most}.")

    return check


def number(*, finite: bool = True) -> Shape:
    """A number; a loss may be NaN or infinite."""

    def check(value: Any, name: str) -> None:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        if not fits or (isinstance(value, int) and abs(value) > _LARGEST):
            raise ShapeError(f"`{name}` is {shown(value)}; it must be a number.")
        if finite and not math.isfinite(value):
            raise ShapeError(f"`{name}` is {shown(value)}; it must be a finite number.")

    return check


def flag(value: Any, name: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise ShapeError(f"`{name}` is {shown(value)}; it must be true or false.")


def optional(shape: Shape) -> Shape:
    """Also null."""

    def check(value: Any, name: str) -> None:
        if value is not None:
            shape(value, name)

    return check


def listing(shape: Shape, *, least: int = 0, most: int) -> Shape:
    """A list of values of one shape."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise ShapeError(f"`{name}` is {shown(value)}; it must be a list of {least} to {most:,} entries.")
        for index, item in enumerate(value):
            shape(item, f"{name}[{index}]")

    return check


def mapping_of(key: Shape, value_shape: Shape, *, most: int) -> Shape:
    """A mapping whose keys and values each have one shape."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, dict) or len(value) > most:
            raise ShapeError(f"`{name}` is {shown(value)}; it must be a mapping of at most {most:,} entries.")
        for one, item in value.items():
            key(one, f"a key of {name}")
            value_shape(item, f"{name}.{one}")

    return check


def mapping(required: dict[str, Shape], more: dict[str, Shape] | None = None, *, others: Shape | None = None) -> Shape:
    """
    A mapping with named fields.

    Args:
        required (`dict[str, Shape]`): Fields that must be there.
        more (`dict[str, Shape]`, *optional*): Fields that may be there.
        others (`Shape`, *optional*): What fields of any other name must be; without it there may be none.
    """
    known = {**required, **(more or {})}

    def check(value: Any, name: str) -> None:
        if not isinstance(value, dict):
            raise ShapeError(f"`{name or 'it'}` is {shown(value)}; it must be a mapping.")
        missing = [one for one in required if one not in value]
        if missing:
            raise ShapeError(f"`{_below(name, missing[0])}` is missing.")
        for one, item in value.items():
            shape = known.get(one, others) if isinstance(one, str) else None
            if shape is None:
                raise ShapeError(f"`{_below(name, one)}` is no field that is known here.")
            shape(item, _below(name, one))

    return check


def shown(value: Any) -> str:
    """A value, short enough for a message."""
    words = ascii(value) if isinstance(value, str) else repr(value)
    return words if len(words) <= 80 else f"{words[:77]}..."


def _below(name: str, field: Any) -> str:
    short = field if isinstance(field, str) and field.isprintable() and len(field) <= 80 else shown(field)
    return f"{name}.{short}" if name else str(short)


__all__ = [
    "Shape",
    "ShapeError",
    "anything",
    "flag",
    "line",
    "listing",
    "mapping",
    "mapping_of",
    "matching",
    "number",
    "one_of",
    "optional",
    "shown",
    "text",
    "whole",
]
