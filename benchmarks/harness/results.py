"""Keep a timing with what is needed to judge it: check, spread, floor, machine, versions."""

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.harness.timing import Timing, quartiles


ROOT = Path(__file__).parents[2]
NOT_SLOWER = 0.97  # what is only meant to be as fast may be three percent slower
_PACKAGES = ("torch", "transformers", "trl", "accelerate", "tokenizers", "safetensors", "pillow", "numpy")


@dataclass(frozen=True)
class Comparison:
    """
    Args:
        name (`str`): Of this line, unique in the file.
        ours, other (`float`): Medians, in `unit`; `other` is `None` where a figure stands alone.
        ratio (`float`): How many times better ours is, whichever direction `unit` counts: the median over turns.
            `None` where there is nothing to compare with.
        unit (`str`): Of `ours`, `other` and `floor`.
        ours_is, other_is (`str`): What was done.
        checked (`str`): How it was made sure that both sides computed the same thing, and what came out.
        at_least (`float`): The ratio to reach.
        higher_is_better (`bool`): For a rate; not for a time or a size.
        floor (`float`, *optional*): The best that this machine could do, in `unit`.
        floor_is (`str`): Where that comes from; or why there is none.
        spread (`dict`): First and third quartile of `ours`, `other` and `ratio`.
        repeats (`int`): Turns that counted.
        notes (`dict`): More figures of the same run.
    """

    name: str
    ours: float
    other: float | None
    ratio: float | None
    unit: str
    ours_is: str
    other_is: str
    checked: str
    at_least: float = NOT_SLOWER
    higher_is_better: bool = False
    floor: float | None = None
    floor_is: str = "none: only the ratio means something"
    spread: dict[str, list[float]] = field(default_factory=dict)
    repeats: int = 1
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def is_kept(self) -> bool:
        return self.ratio is None or self.ratio >= self.at_least


def compared(timing: Timing, *, amount: float | None = None, unit: str = "s", **facts: Any) -> Comparison:
    """
    The line of a timing.

    Args:
        timing ([`Timing`]): Seconds of both sides.
        amount (`float`, *optional*): How much was done in each turn; the line is then a rate, `amount` per second.
        unit (`str`, *optional*, defaults to `"s"`): `"s"`, `"ms"`, or of the rate.
        **facts: The other fields of [`Comparison`].
    """
    scale = {"s": 1.0, "ms": 1e3}.get(unit, 1.0)

    def values(seconds: list[float]) -> list[float]:
        return [amount / second if amount is not None else second * scale for second in seconds]

    parts = {name: quartiles(values(getattr(timing, name))) for name in ("ours", "other")}
    parts["ratio"] = quartiles(timing.ratios)
    return Comparison(
        ours=_short(parts["ours"][1]),
        other=_short(parts["other"][1]),
        ratio=round(parts["ratio"][1], 3),
        unit=unit,
        higher_is_better=amount is not None,
        spread={name: [_short(low), _short(high)] for name, (low, _, high) in parts.items()},
        repeats=len(timing.ours),
        **facts,
    )


def where_and_when() -> dict[str, Any]:
    """Kind of machine, versions, commit and date; no name of a host or a user. A copy has `BENCH_COMMIT`."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {_memory() / 1e9:.0f} GB",
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
        "commit": commit.stdout.strip() or os.environ.get("BENCH_COMMIT", "unknown"),
        "date": datetime.now(UTC).date().isoformat(),
    }


def write_results(path: Path, comparisons: list[Comparison], *, command: str, setting: dict[str, Any]) -> None:
    """Put lines into a results file: a list, in which a line of the same name is replaced and the others stay."""
    facts = {"command": command, **setting, **where_and_when()}
    lines = [asdict(comparison) | facts for comparison in comparisons]
    names = {line["name"] for line in lines}
    kept = [line for line in read_results(path) if line["command"] != command and line["name"] not in names]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([*kept, *lines], indent=1) + "\n", encoding="utf-8")


def read_results(path: Path) -> list[dict[str, Any]]:
    """The lines of a results file; none where there is no file yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def format_table(comparisons: list[Comparison]) -> str:
    """One line per comparison, for a terminal."""
    rows = [("", "ours", "other", "unit", "ratio", "target")]
    for line in comparisons:
        if line.other is None or line.ratio is None:
            rows.append((line.name, f"{line.ours:g}", "", line.unit, "", ""))
            continue
        verdict = "" if line.is_kept else "  MISSED"
        target = f">= {line.at_least:g}{verdict}"
        rows.append((line.name, f"{line.ours:g}", f"{line.other:g}", line.unit, f"{line.ratio:.2f}", target))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def _short(value: float) -> float:
    """Four digits: more are noise."""
    return float(f"{value:.4g}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _processor() -> str:
    """The model of the processor where the system says it; else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


__all__ = [
    "Comparison",
    "NOT_SLOWER",
    "ROOT",
    "compared",
    "format_table",
    "read_results",
    "where_and_when",
    "write_results",
]
