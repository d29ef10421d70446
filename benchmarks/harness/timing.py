"""Time two ways to do the same work, taken in turns, and the ratio of each turn."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Timing:
    """Seconds of each turn: `ours[i]` and `other[i]` were taken one right after the other."""

    ours: list[float]
    other: list[float]

    @property
    def ratios(self) -> list[float]:
        """How many times faster ours was, by turns: what slows a machine for a while slows both sides of a turn."""
        return [other / ours for ours, other in zip(self.ours, self.other, strict=True)]


def take_turns(
    ours: Callable[[], Any],
    other: Callable[[], Any],
    *,
    repeats: int,
    warmups: int = 1,
    clock: Callable[[], float] | None = None,
) -> Timing:
    """
    Time two functions in turns; who begins changes with every turn.

    Args:
        ours, other (`Callable`): The same work, done in two ways.
        repeats (`int`): Turns that count.
        warmups (`int`, *optional*, defaults to 1): Turns before, which do not count.
        clock (`Callable`, *optional*): Seconds; by default [`cpu_seconds`].

    Example:

    ```python
    timing = take_turns(lambda: sum(range(1000)), lambda: sum(range(2000)), repeats=5)
    statistics.median(timing.ratios)
    ```
    """
    clock = clock or cpu_seconds
    sides = (("ours", ours), ("other", other))
    seconds: dict[str, list[float]] = {"ours": [], "other": []}
    for turn in range(-warmups, repeats):
        for name, run in sides if turn % 2 == 0 else reversed(sides):
            started = clock()
            run()
            if turn >= 0:
                seconds[name].append(clock() - started)
    return Timing(**seconds)


def cpu_seconds() -> float:
    """CPU time of this process, in all its threads: other programs on the machine are not counted."""
    return time.process_time()


def cpu_seconds_with_children() -> float:
    """CPU time of this process and of the processes it has started and waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile; of a single value, three times that."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


__all__ = ["Timing", "cpu_seconds", "cpu_seconds_with_children", "quartiles", "take_turns"]
