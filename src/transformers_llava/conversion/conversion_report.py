"""Account for every key and field of a conversion: the report that is printed and saved beside its result."""

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal


Status = Literal["MAPPED", "DEFAULTED", "DROPPED"]

REPORT_FILE = "conversion_report.json"
PIXEL_TOLERANCE = 1e-6
RELATIVE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class ConfigField:
    """What became of one field: `source` is its name in the source, `target` here; one of them may be empty."""

    status: Status
    source: str = ""
    target: str = ""
    value: Any = None
    reason: str = ""


@dataclass
class ConfigReport:
    """Every field of a source configuration and what became of it."""

    layout: str
    fields: list[ConfigField] = field(default_factory=list)

    def add(self, status: Status, source: str = "", target: str = "", value: Any = None, reason: str = "") -> None:
        self.fields.append(ConfigField(status, source, target, value, reason))

    def to_dict(self) -> dict[str, Any]:
        return {"layout": self.layout, "fields": [asdict(row) for row in self.fields]}


@dataclass(frozen=True)
class ParityCase:
    """
    One image with one prompt.

    Attributes:
        prompt (`str`)
        size (`tuple[int, int]`): (width, height) of the image; `None` for text alone.
        token_ids_equal, greedy_equal (`bool`): Of the input and of the answer.
        pixels (`float`): Largest absolute difference.
        features, logits (`float`): Largest difference, relative to the largest value.
        spare_rows (`float`): Largest share of probability, of any position, that the rows take by which an export has
            filled its table up; no difference of the logits, but one that sampling sees.
    """

    prompt: str
    size: tuple[int, int] | None
    token_ids_equal: bool
    pixels: float
    features: float
    logits: float
    greedy_equal: bool
    spare_rows: float = 0.0

    @property
    def passed(self) -> bool:
        bounds = (
            (self.pixels, PIXEL_TOLERANCE),
            (self.features, RELATIVE_TOLERANCE),
            (self.logits, RELATIVE_TOLERANCE),
        )
        # Each by itself: max(0.0, nan) is 0.0, and nan <= bound is False.
        is_close = all(math.isfinite(value) and value <= bound for value, bound in bounds)
        return self.token_ids_equal and self.greedy_equal and is_close


def _json_value(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@dataclass
class ParityReport:
    """
    All cases; `passed` if there are any, each lies within pixels 1e-6, features and logits 1e-4 relative, and equal
    tokens, and there are no `problems`: weights that a folder lacks, which the loader fills in with a warning.
    """

    cases: list[ParityCase] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return bool(self.cases) and not self.problems and all(case.passed for case in self.cases)

    def to_dict(self) -> dict[str, Any]:
        cases = [{name: _json_value(value) for name, value in asdict(case).items()} for case in self.cases]
        return {"passed": self.passed, "problems": self.problems, "cases": cases}

    def __str__(self) -> str:
        good = sum(case.passed for case in self.cases)
        lines = [f"  parity:  {'passed' if self.passed else 'FAILED'}, {good} of {len(self.cases)} cases"]
        lines += [f"    DIFF {problem}" for problem in self.problems]
        for case in self.cases:
            size = "text only" if case.size is None else f"{case.size[0]}x{case.size[1]}"
            lines.append(
                f"    {'ok  ' if case.passed else 'DIFF'} {size:>10} {case.prompt[:28]!r:<32} "
                f"ids {'equal' if case.token_ids_equal else 'DIFFER'}, pixels {case.pixels:.1e}, "
                f"features {case.features:.1e}, logits {case.logits:.1e}, "
                f"answers {'equal' if case.greedy_equal else 'DIFFER'}"
            )
        share = max((case.spare_rows for case in self.cases), default=0.0)
        if share:
            lines.append(
                f"    spare rows of the table take up to {share:.1%} of the probability at a position: greedy answers "
                "are the same, sampled ones and log-probabilities differ by that much"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class KeyAccount:
    """What became of one weight: `target` is its new name, or `reason` says why it is not there."""

    source: str
    target: str | None = None
    reason: str = ""


@dataclass
class ConversionReport:
    """
    The account of one conversion.

    Attributes:
        source, target (`str`): Folders.
        kind (`str`): What the source is: `original`, `lora`, `projector`, `delta`, `builtin` or `open_llava`.
        to (`str`): `open_llava` or `builtin`.
        config ([`ConfigReport`]): Every field of its configuration, on the way to ours.
        export ([`ConfigReport`], *optional*): Every field of ours, on the way to the built-in class's.
        weights (`list[KeyAccount]`): Every weight.
        notes (`list[str]`): What a user should know: resized embeddings, what will differ in built-in classes.
        files (`list[str]`): Written.
        parity ([`ParityReport`], *optional*): Of `check_parity=True`.
    """

    source: str
    target: str
    kind: str
    to: str
    config: ConfigReport
    weights: list[KeyAccount] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    parity: ParityReport | None = None
    export: ConfigReport | None = None

    def to_dict(self) -> dict[str, Any]:
        # Folder names only: where a checkpoint lay on one machine tells others nothing.
        return {
            "source": Path(self.source).name,
            "target": Path(self.target).name,
            "kind": self.kind,
            "to": self.to,
            "config": self.config.to_dict(),
            "export": None if self.export is None else self.export.to_dict(),
            "weights": [asdict(account) for account in self.weights],
            "notes": self.notes,
            "files": self.files,
            "parity": None if self.parity is None else self.parity.to_dict(),
        }

    def save(self, folder: str | Path) -> None:
        text = json.dumps(self.to_dict(), indent=2, default=str)
        (Path(folder) / REPORT_FILE).write_text(text + "\n", encoding="utf-8")

    def __str__(self) -> str:
        dropped = [account for account in self.weights if account.target is None]
        added = [account for account in self.weights if not account.source]
        lines = [
            f"{self.source} ({self.kind}) -> {self.target} ({self.to})",
            f"  weights: {len(self.weights) - len(dropped) - len(added)} mapped, {len(dropped)} dropped"
            + (f", {len(added)} added" if added else ""),
        ]
        reasons = Counter(account.reason for account in dropped)
        lines += [f"    dropped {count}: {reason}" for reason, count in sorted(reasons.items())]
        lines += [f"    added {count}: {why}" for why, count in sorted(Counter(one.reason for one in added).items())]
        lines += _field_lines("config: ", self.config)
        if self.export is not None:
            lines += _field_lines("export: ", self.export)
        lines += [f"  note: {note}" for note in self.notes]
        lines.append(f"  wrote {', '.join(self.files)}")
        if self.parity is not None:
            lines.append(str(self.parity))
        return "\n".join(lines)


def _field_lines(title: str, report: ConfigReport) -> list[str]:
    fields = Counter(row.status for row in report.fields)
    lines = [f"  {title} {', '.join(f'{fields[s]} {s}' for s in ('MAPPED', 'DEFAULTED', 'DROPPED'))}"]
    for row in report.fields:
        if row.status != "MAPPED" or row.reason:
            lines.append(f"    {row.status:<9} {row.source or row.target} = {_short(row.value)}: {row.reason}")
    return lines


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."


__all__ = [
    "ConfigField",
    "ConfigReport",
    "ConversionReport",
    "KeyAccount",
    "ParityCase",
    "ParityReport",
    "REPORT_FILE",
    "Status",
]
