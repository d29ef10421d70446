"""Convert canvas lists as others write them to ours, `[width, height]` in the original's order, and back."""

import ast
import re
from collections.abc import Sequence
from typing import Any

from transformers_llava.artifacts.limits import MAX_CANVAS_SIDE, MAX_PINPOINT_TEXT, MAX_PINPOINTS


Pinpoints = list[list[int]]


def parse_pinpoints(value: Any, tile_size: int) -> Pinpoints | None:
    """
    The original's canvases: a list of `[width, height]`, the same as a string, or a range of tile counts.

    Example:

        >>> parse_pinpoints("(1x1),...,(2x2)", 336)
        [[336, 336], [336, 672], [672, 336], [672, 672]]
    """
    if value is None:
        return None
    if isinstance(value, str) and len(value) > MAX_PINPOINT_TEXT:
        raise ValueError(_unreadable(value))
    if isinstance(value, str) and "x" in value:
        corners = re.findall(r"\((\d{1,5})x(\d{1,5})\)", value)
        if not corners:
            raise ValueError(_unreadable(value))
        (first_w, first_h), (last_w, last_h) = [(int(w), int(h)) for w, h in (corners[0], corners[-1])]
        if (last_w - first_w + 1) * (last_h - first_h + 1) > MAX_PINPOINTS:
            raise ValueError(_unreadable(value))
        # Columns are the outer loop: of equally good canvases the first wins, so the order counts.
        counts = [(w, h) for w in range(first_w, last_w + 1) for h in range(first_h, last_h + 1)]
        return _checked([[w * tile_size, h * tile_size] for w, h in counts], value)
    if isinstance(value, str):
        try:
            return _checked(ast.literal_eval(value), value)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ValueError(_unreadable(value)) from None
    return _checked(value, value)


def hf_pinpoints_to_ours(stored: Sequence[Sequence[int]]) -> tuple[Pinpoints, str]:
    """
    Canvases of a llava-hf checkpoint as `[width, height]`, and the reason for the choice.

    The built-in classes read each pair as (height, width), but the published lists were copied from the original,
    which reads (width, height). If the list holds the transpose of each of its canvases, both readings allow the same
    ones and only the order of ties differs: the numbers are kept, which is what the original does. Otherwise what the
    built-in class does is the only known meaning, and each pair is transposed.
    """
    pairs = _checked(stored, stored)
    if {tuple(pair) for pair in pairs} == {(b, a) for a, b in pairs}:
        return pairs, "kept: the list is its own transpose, so it is the original's (width, height)"
    return [[b, a] for a, b in pairs], "transposed from (height, width)"


def our_pinpoints_to_hf(pinpoints: Sequence[Sequence[int]]) -> Pinpoints:
    """(height, width) pairs in our order, so that ties fall in the built-in class as they do in the original."""
    return [[int(height), int(width)] for width, height in pinpoints]


def _checked(pairs: Any, stored: Any) -> Pinpoints:
    """Pairs of whole numbers of pixels; `stored` is how they stand in the file, for the message."""
    is_list = isinstance(pairs, list | tuple) and len(pairs) <= MAX_PINPOINTS
    if not is_list or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise ValueError(_unreadable(stored))
    sides = [side for pair in pairs for side in pair]
    if not all(isinstance(side, int) and not isinstance(side, bool) and 0 < side <= MAX_CANVAS_SIDE for side in sides):
        raise ValueError(_unreadable(stored))
    return [[width, height] for width, height in pairs]


def _unreadable(value: Any) -> str:
    text = repr(value[:100] if isinstance(value, str | list | tuple) else value)[:100]
    return (
        f"image_grid_pinpoints={text} is neither a list of [width, height] in pixels nor a range of tiles such as "
        f"'(1x1),...,(6x6)', of at most {MAX_PINPOINTS} canvases, so those of this checkpoint are unknown. Correct "
        "it in config.json."
    )


__all__ = ["Pinpoints", "hf_pinpoints_to_ours", "our_pinpoints_to_hf", "parse_pinpoints"]
