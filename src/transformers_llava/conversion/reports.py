"""What a conversion did with every key and field: the account that is printed and saved beside its result."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers_llava.conversion.configs import ConfigReport


if TYPE_CHECKING:
    from transformers_llava.conversion.parity import ParityReport


REPORT_FILE = "conversion_report.json"


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
        notes (`list[str]`): What a person should know: resized embeddings, what will differ in built-in classes.
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
    parity: "ParityReport | None" = None
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


__all__ = ["REPORT_FILE", "ConversionReport", "KeyAccount"]
