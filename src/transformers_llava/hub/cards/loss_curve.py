"""Draw the losses of every stage as one image."""

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from transformers_llava.artifacts.run_record.run_stages import Stage


CURVES_NAME = "loss.png"
_SIZE = (640, 260)  # of one stage, pixels
_MARGIN = 44
_INK, _GREY, _LINE = (30, 30, 30), (200, 200, 200), (31, 90, 160)


def losses_of(stage: Stage) -> list[tuple[int, float]]:
    """(step, loss) of every logged step whose loss is a number; see `num_not_finite` for the others."""
    return [(step, loss) for step, loss in stage.losses if loss is not None and math.isfinite(loss)]


def num_not_finite(stage: Stage) -> int:
    """Logged steps whose loss was infinite or no number."""
    return len(stage.losses) - len(losses_of(stage))


def draw_curves(stages: Sequence[Stage], folder: Path) -> Path | None:
    """Writes `loss.png`, one panel below the other; `None` where no stage has logged two losses."""
    drawn = [stage for stage in stages if len(losses_of(stage)) >= 2]
    if not drawn:
        return None
    width, height = _SIZE
    image = Image.new("RGB", (width, height * len(drawn)), "white")
    draw = ImageDraw.Draw(image)
    for number, stage in enumerate(drawn):
        _draw_panel(draw, losses_of(stage), stage.name, top=number * height)
    path = folder / CURVES_NAME
    image.save(path, optimize=False)
    return path


def _draw_panel(draw: ImageDraw.ImageDraw, points: list[tuple[int, float]], title: str, top: int) -> None:
    width, height = _SIZE
    left, right, upper, lower = _MARGIN, width - 16, top + 28, top + height - 30
    steps, losses = [step for step, _ in points], [loss for _, loss in points]
    lowest, highest = min(0.0, *losses), max(losses)
    span = (highest - lowest) or 1.0
    draw.text((left, top + 8), f"{title}: loss by step", fill=_INK)
    for part in range(5):
        value = lowest + span * part / 4
        y = lower - (lower - upper) * part / 4
        draw.line((left, y, right, y), fill=_GREY)
        draw.text((6, y - 6), f"{value:.2f}", fill=_INK)
    draw.text((left, lower + 8), str(steps[0]), fill=_INK)
    draw.text((right - 30, lower + 8), str(steps[-1]), fill=_INK)
    scale = (right - left) / ((steps[-1] - steps[0]) or 1)
    line = [
        (left + (step - steps[0]) * scale, lower - (loss - lowest) / span * (lower - upper)) for step, loss in points
    ]
    draw.line(line, fill=_LINE, width=2)


__all__ = ["CURVES_NAME", "draw_curves", "losses_of", "num_not_finite"]
