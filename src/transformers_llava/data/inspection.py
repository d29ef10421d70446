"""Show encoded examples and lengths so that a user can judge them: supervised tokens in green, histograms."""

import contextlib
import html
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any, Literal

from transformers_llava.data.images.opening import image_size
from transformers_llava.data.reports import MixtureReport
from transformers_llava.data.schema import IGNORE_INDEX, EncodedExample, Example, RecordError


_GREEN, _GREY, _RESET = "\x1b[32m", "\x1b[90m", "\x1b[0m"


def render_example(encoded: EncodedExample, processor: Any, *, format: Literal["ansi", "html"] = "ansi") -> str:
    """
    The text that the model sees, with what it is trained to write in green and each image as one grey mark.

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


def plot_histograms(values: Mapping[str, Sequence[float]], path: str | Path) -> None:
    """
    One histogram per name, side by side, as a PNG.

    Args:
        values (`Mapping`):
            What to count, for example `{"tokens per example": [...], "image width": [...]}`.
        path (`str` or `Path`):
            The file to write.

    Raises:
        `ValueError`: matplotlib, which is optional, is not installed.
    """
    try:
        from matplotlib.figure import Figure  # not pyplot: no window, no global state
    except ImportError as error:
        raise ValueError(
            "histograms need matplotlib, which is not installed, so nothing was drawn. Install it with "
            "`pip install 'transformers-llava[inspect]'`, or leave the image out."
        ) from error

    figure = Figure(figsize=(4.5 * len(values), 3.2), layout="constrained")
    for axis, (name, numbers) in zip(figure.subplots(1, len(values), squeeze=False)[0], values.items()):
        axis.hist(list(numbers), bins=min(50, max(1, len(set(numbers)))), color="#1a7f37")
        axis.set_xlabel(name)
        axis.set_ylabel("count")
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, format="png")


def image_sizes(examples: Iterable[Example], *, at_most: int = 5000) -> list[tuple[int, int]]:
    """(width, height) of the first distinct images, from their headers; one that cannot be read is left out."""
    sizes: list[tuple[int, int]] = []
    seen: set[str] = set()
    for example in examples:
        for reference in example["images"]:
            path = reference["path"] if reference["bytes"] is None else None
            if path is not None and path in seen:
                continue
            seen.add(path or "")
            if len(sizes) == at_most:
                return sizes
            with contextlib.suppress(RecordError):
                sizes.append(image_size(reference))
    return sizes


def describe_rejections(report: MixtureReport) -> list[str]:
    """What was left out of each source: count, reason, and what was wrong with the first few."""
    lines = []
    for source in report.sources:
        for reason, count in sorted(source.dropped.items(), key=lambda item: (-item[1], item[0])):
            lines.append(f"{source.name}: {count:,} {reason}")
            lines += [f"    {rejection.position}: {rejection.error()}" for rejection in source.examples[reason]]
    return lines


def rows_to_show(sources: Sequence[str], num_rows: int) -> list[int]:
    """
    The first rows, taking turns between the sources: of a, a, a, b the first three are 0, 3, 1.

    Args:
        sources (`Sequence[str]`):
            Source of each row.
        num_rows (`int`):
            How many to choose at most.
    """
    rows_of: dict[str, list[int]] = {}
    for row, source in enumerate(sources):
        rows = rows_of.setdefault(source, [])
        if len(rows) < num_rows:
            rows.append(row)
    turns = zip_longest(*rows_of.values())
    return [row for turn in turns for row in turn if row is not None][:num_rows]


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


__all__ = ["describe_rejections", "image_sizes", "plot_histograms", "render_example", "rows_to_show"]
