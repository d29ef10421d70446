"""Check the kinds of values that somebody wrote into a mixture file or a recipe, before anything is done with them."""

from collections.abc import Mapping
from typing import Any, Literal


Kind = Literal["text", "integer", "number", "bool", "list"]

_TYPES: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "integer": int,
    "number": (int, float),
    "bool": bool,
    "list": (list, tuple),
}
_WORDS: dict[str, str] = {
    "text": "text; put quotes around it if it looks like a number or a date",
    "integer": "a whole number",
    "number": "a number (YAML takes 1e-3 for text: write 0.001)",
    "bool": "true or false",
    "list": "a list",
}


def check_fields(owner: str, values: Mapping[str, Any], kinds: Mapping[str, Kind]) -> None:
    """
    Raises `ValueError` for the first value that is not of its kind; `None` stands for a field that was left out.

    ```python
    >>> check_fields("source 'a'", {"weight": "half"}, {"weight": "number"})
    ValueError: source 'a' has weight='half'. It must be a number.
    ```
    """
    for name, kind in kinds.items():
        value = values.get(name)
        # bool is an int to Python, and `num_examples: true` is a slip to anybody else
        is_right = isinstance(value, _TYPES[kind]) and (kind == "bool" or not isinstance(value, bool))
        if value is not None and not is_right:
            raise ValueError(f"{owner} has {name}={shown(value)}. It must be {_WORDS[kind]}.")


def check_num_proc(num_proc: int | None) -> None:
    """Raises `ValueError` for a number of workers that could do nothing."""
    if num_proc is not None and num_proc < 1:
        raise ValueError(f"num_proc={num_proc} workers would do nothing. Use at least 1, or leave it out.")


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


__all__ = ["Kind", "check_fields", "check_num_proc", "shown"]
