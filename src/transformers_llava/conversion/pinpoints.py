"""Canvas lists as others write them to ours, `[width, height]` in the original's order, and back."""

import ast
import re
from collections.abc import Sequence
from typing import Any


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
    if isinstance(value, str) and "x" in value:
        corners = re.findall(r"\((\d+)x(\d+)\)", value)
        if not corners:
            raise ValueError(_unreadable(value))
        (first_w, first_h), (last_w, last_h) = [(int(w), int(h)) for w, h in (corners[0], corners[-1])]
        # Columns are the outer loop: of equally good canvases the first wins, so the order counts.
        counts = [(w, h) for w in range(first_w, last_w + 1) for h in range(first_h, last_h + 1)]
        return [[w * tile_size, h * tile_size] for w, h in counts]
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            raise ValueError(_unreadable(value)) from None
    try:
        return [[int(width), int(height)] for width, height in value]
    except (TypeError, ValueError):
        raise ValueError(_unreadable(value)) from None


def hf_pinpoints_to_ours(stored: Sequence[Sequence[int]]) -> tuple[Pinpoints, str]:
    """
    Canvases of a llava-hf checkpoint as `[width, height]`, and the reason for the choice.

    The built-in classes read each pair as (height, width), but the published lists were copied from the original,
    which reads (width, height). If the list holds the transpose of each of its canvases, both readings allow the same
    ones and only the order of ties differs: the numbers are kept, which is what the original does. Otherwise what the
    built-in class does is the only known meaning, and each pair is transposed.
    """
    pairs = [[int(a), int(b)] for a, b in stored]
    if {tuple(pair) for pair in pairs} == {(b, a) for a, b in pairs}:
        return pairs, "kept: the list is its own transpose, so it is the original's (width, height)"
    return [[b, a] for a, b in pairs], "transposed from (height, width)"


def our_pinpoints_to_hf(pinpoints: Sequence[Sequence[int]]) -> Pinpoints:
    """(height, width) pairs in our order, so that ties fall in the built-in class as they do in the original."""
    return [[int(height), int(width)] for width, height in pinpoints]


def _unreadable(value: Any) -> str:
    return (
        f"image_grid_pinpoints={value!r} is neither a list of [width, height] nor a range such as '(1x1),...,(6x6)', "
        "so the canvases of this checkpoint are unknown. Correct it in config.json."
    )


__all__ = ["Pinpoints", "hf_pinpoints_to_ours", "our_pinpoints_to_hf", "parse_pinpoints"]
