"""
Check an untrusted JSON document field by field, and name the first field that does not fit.

A check is a function of a value and the name of its field. `flag` and `anything` are checks; every other function
returns one, so that they can be nested:

    >>> check = mapping({"step": whole()}, {"loss": optional(number(finite=False))})
    >>> check({"step": 3}, "")
    >>> check({"step": -1}, "history")
    Traceback (most recent call last):
    transformers_llava.artifacts.run_record.field_checks.FieldError: `history.step` is -1; it must be ...
"""

import math
import re
from collections.abc import Callable
from typing import Any


FieldCheck = Callable[[Any, str], None]  # (value, name of its field); raises `FieldError`

_LARGEST = 2**63  # JSON integers have no bound, and `float(10**400)` raises `OverflowError`


class FieldError(ValueError):
    """A field is missing, unknown, or has an invalid value; the message names the field and shows the value."""


def anything(value: Any, name: str) -> None:
    """Accept any JSON value, for a field that is kept but never interpreted."""


def line(limit: int = 500) -> FieldCheck:
    """Accept a non-empty text of one line without control characters, safe inside a comment, a table or a message."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, str) or not 0 < len(value) <= limit or not value.isprintable():
            raise FieldError(f"`{name}` is {shown(value)}; it must be one line of text, at most {limit} characters.")

    return check


def text(limit: int) -> FieldCheck:
    """Accept a text of any number of lines, without null characters."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, str) or len(value) > limit or "\0" in value:
            raise FieldError(f"`{name}` is {shown(value)}; it must be text of at most {limit:,} characters.")

    return check


def matching(pattern: str, meaning: str) -> FieldCheck:
    """Accept a text that `pattern` matches as a whole; `meaning` says so in the error."""
    compiled = re.compile(pattern)

    def check(value: Any, name: str) -> None:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise FieldError(f"`{name}` is {shown(value)}; it must be {meaning}.")

    return check


def one_of(*allowed: str) -> FieldCheck:
    """Accept one of the given texts."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, str) or value not in allowed:
            raise FieldError(f"`{name}` is {shown(value)}; it must be one of {', '.join(allowed)}.")

    return check


def whole(least: int = 0, most: int = _LARGEST) -> FieldCheck:
    """Accept an integer from `least` to `most`, both included; `True` and `False` are none."""

    def check(value: Any, name: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise FieldError(f"`{name}` is {shown(value)}; it must be a whole number from {least} to {most}.")

    return check


def number(*, finite: bool = True) -> FieldCheck:
    """Accept an integer or a float; with `finite=False` also NaN and infinity, which a diverged loss is."""

    def check(value: Any, name: str) -> None:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        if not fits or (isinstance(value, int) and abs(value) > _LARGEST):
            raise FieldError(f"`{name}` is {shown(value)}; it must be a number.")
        if finite and not math.isfinite(value):
            raise FieldError(f"`{name}` is {shown(value)}; it must be a finite number.")

    return check


def flag(value: Any, name: str) -> None:
    """Accept true or false."""
    if not isinstance(value, bool):
        raise FieldError(f"`{name}` is {shown(value)}; it must be true or false.")


def optional(inner: FieldCheck) -> FieldCheck:
    """Accept null and what `inner` accepts."""

    def check(value: Any, name: str) -> None:
        if value is not None:
            inner(value, name)

    return check


def listing(item: FieldCheck, *, least: int = 0, most: int) -> FieldCheck:
    """Accept a list of `least` to `most` entries, each of which `item` accepts."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise FieldError(f"`{name}` is {shown(value)}; it must be a list of {least} to {most:,} entries.")
        for index, entry in enumerate(value):
            item(entry, f"{name}[{index}]")

    return check


def mapping_of(key: FieldCheck, item: FieldCheck, *, most: int) -> FieldCheck:
    """Accept a mapping of at most `most` entries with any keys: `key` checks each of them, `item` each value."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, dict) or len(value) > most:
            raise FieldError(f"`{name}` is {shown(value)}; it must be a mapping of at most {most:,} entries.")
        for field, entry in value.items():
            key(field, f"a key of {name}")
            item(entry, f"{name}.{field}")

    return check


def mapping(
    required: dict[str, FieldCheck], more: dict[str, FieldCheck] | None = None, *, others: FieldCheck | None = None
) -> FieldCheck:
    """
    Accept a mapping with these fields.

    Args:
        required (`dict[str, FieldCheck]`): Fields that must be there, with the check of each.
        more (`dict[str, FieldCheck]`, *optional*): Fields that may be absent.
        others (`FieldCheck`, *optional*): Checks fields of any other name; without it such a field is refused.
    """
    known = {**required, **(more or {})}

    def check(value: Any, name: str) -> None:
        if not isinstance(value, dict):
            raise FieldError(f"`{name or 'it'}` is {shown(value)}; it must be a mapping.")
        missing = [field for field in required if field not in value]
        if missing:
            raise FieldError(f"`{_below(name, missing[0])}` is missing.")
        for field, entry in value.items():
            inner = known.get(field, others) if isinstance(field, str) else None
            if inner is None:
                raise FieldError(f"`{_below(name, field)}` is no field that is known here.")
            inner(entry, _below(name, field))

    return check


def shown(value: Any) -> str:
    """The value as a literal of at most 80 characters, texts in ASCII, so that a message can quote it safely."""
    words = ascii(value) if isinstance(value, str) else repr(value)
    return words if len(words) <= 80 else f"{words[:77]}..."


def _below(name: str, field: Any) -> str:
    short = field if isinstance(field, str) and field.isprintable() and len(field) <= 80 else shown(field)
    return f"{name}.{short}" if name else str(short)


__all__ = [
    "FieldCheck",
    "FieldError",
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
