"""What became of every field of a source configuration."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal


Status = Literal["MAPPED", "DEFAULTED", "DROPPED"]


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


__all__ = ["ConfigField", "ConfigReport", "Status"]
