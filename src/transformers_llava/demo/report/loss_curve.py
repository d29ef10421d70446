"""Draw a loss history as an inline SVG: readable without a plotting library, sharp at any size."""

import html
import math
from collections.abc import Sequence
from typing import Any


WIDTH, HEIGHT = 420, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 30, 30


def draw_loss_curve(history: Sequence[dict[str, Any]], title: str) -> str:
    """
    Draws the training loss over the steps, on a logarithmic axis.

    Args:
        history (`Sequence[dict]`): Entries of the trainer's log; those with `step` and a positive `loss` are points.
        title (`str`): Heading.

    Returns:
        `str`: An `<svg>` element.
    """
    points = [(entry["step"], entry["loss"]) for entry in history if entry.get("loss", 0) > 0]
    if not points:
        return f"<p><b>{html.escape(title)}</b>: no loss was logged.</p>"
    steps, losses = zip(*points, strict=True)
    low, high = math.log10(min(losses)), math.log10(max(losses))
    low, high = (low, high) if high - low > 0.1 else (low - 0.1, high + 0.1)
    last = max(steps)

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / last

    def y(loss: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - math.log10(loss)) / (high - low)

    line = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in points)
    ticks = [10 ** (low + (high - low) * i / 4) for i in range(5)]
    grid = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#e4e7ec"/>'
        f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.2g}</text>'
        for tick in ticks
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" font-family="system-ui" font-size="11" fill="#667085">'
        f'<text x="{LEFT}" y="16" font-size="13" font-weight="600" fill="#1d2433">{html.escape(title)}</text>{grid}'
        f'<polyline points="{line}" fill="none" stroke="#2f5fde" stroke-width="2"/>'
        f'<text x="{LEFT}" y="{HEIGHT - 8}">step 0</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">step {last:,}</text></svg>'
    )


__all__ = ["draw_loss_curve"]
