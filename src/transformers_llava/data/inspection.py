"""Encoded examples and lengths to something a person can look at: supervised tokens in green, histograms."""

import html
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from transformers_llava.data.schema import IGNORE_INDEX, EncodedExample


_GREEN, _GREY, _RESET = "\x1b[32m", "\x1b[90m", "\x1b[0m"


def render_example(encoded: EncodedExample, processor: Any, *, format: Literal["ansi", "html"] = "ansi") -> str:
    """
    The text that the model sees, with what it is trained to write in green and each picture as one grey mark.

    Args:
        encoded (`EncodedExample`):
            One example.
        processor (`OpenLlavaProcessor`):
            Whose tokenizer reads the ids.
        format (`str`, *optional*, defaults to `"ansi"`):
            `ansi` for a terminal, `html` for a page (one `<pre>`, everything escaped).
    """
    pieces = [
        (kind, _text(processor, kind, [token for token, _ in group]))
        for kind, group in groupby(_kinds(encoded, processor), key=lambda pair: pair[1])
    ]
    if format == "html":
        style = {"supervised": "color:#1a7f37;font-weight:bold", "image": "color:#888", "context": ""}
        spans = (f'<span style="{style[kind]}">{html.escape(text)}</span>' for kind, text in pieces)
        return f'<pre style="white-space:pre-wrap">{"".join(spans)}</pre>'
    colour = {"supervised": _GREEN, "image": _GREY, "context": ""}
    return "".join(f"{colour[kind]}{text}{_RESET if colour[kind] else ''}" for kind, text in pieces)


def plot_histograms(values: dict[str, Sequence[float]], path: str | Path) -> None:
    """
    One histogram per name, side by side, as a PNG. Needs matplotlib.

    Args:
        values (`dict`):
            What to count, for example `{"tokens per example": [...], "picture width": [...]}`.
        path (`str` or `Path`):
            The file to write.
    """
    from matplotlib.figure import Figure  # not pyplot: no window, no global state

    figure = Figure(figsize=(4.5 * len(values), 3.2), layout="constrained")
    for axis, (name, numbers) in zip(figure.subplots(1, len(values), squeeze=False)[0], values.items()):
        axis.hist(list(numbers), bins=min(50, max(1, len(set(numbers)))), color="#1a7f37")
        axis.set_xlabel(name)
        axis.set_ylabel("count")
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, format="png")


def _kinds(encoded: EncodedExample, processor: Any) -> Iterable[tuple[int, str]]:
    for token, label in zip(encoded.input_ids.tolist(), encoded.labels.tolist()):
        if token == processor.image_token_id:
            yield token, "image"
        else:
            yield token, "context" if label == IGNORE_INDEX else "supervised"


def _text(processor: Any, kind: str, tokens: list[int]) -> str:
    if kind == "image":
        return f"<image: {len(tokens)} tokens>"
    return processor.tokenizer.decode(tokens, clean_up_tokenization_spaces=False)


__all__ = ["plot_histograms", "render_example"]
