"""Report what became of every record: counted, with its reason, and a digest of what was kept."""

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from transformers_llava.data.schema import RecordError


_EXAMPLES_PER_REASON = 5
_COUNTERS = ("dropped", "filtered", "notes", "folders")


@dataclass
class Rejection:
    """One record that is not in the data set, and why."""

    record_id: str
    reason: str
    message: str
    position: str  # where in the file: `line 7`, `element 7`
    row: int  # how many records of the file came before

    def error(self) -> RecordError:
        return RecordError(self.reason, self.message, record_id=self.record_id)


@dataclass
class SourceReport:
    """
    What became of the records of one source.

    Contract: `num_read == num_kept + dropped.total() + filtered.total()`.
    """

    name: str
    num_read: int = 0
    num_kept: int = 0  # good records
    num_used: int = 0  # rows in the data set, after `num_examples`, `weight` or `sampling`
    dropped: Counter[str] = field(default_factory=Counter)  # reason -> number of records
    filtered: Counter[str] = field(default_factory=Counter)  # condition that was not met -> number of records
    examples: dict[str, list[Rejection]] = field(default_factory=dict)  # reason -> the first few of them
    notes: Counter[str] = field(default_factory=Counter)  # what was changed in records that were kept
    num_repeated_ids: int = 0  # records, kept or not, whose id had occurred before
    num_images: int = 0  # distinct images
    digest: str = ""  # of the kept records, whatever their order, folder or format
    digest_covers: str = ""
    license: str | None = None
    license_url: str | None = None
    provenance: str | None = None
    folders: Counter[str] = field(default_factory=Counter)  # records per image folder, where these were published

    def reject(self, error: RecordError, position: str, *, row: int) -> None:
        self.dropped[error.reason] += 1
        first = self.examples.setdefault(error.reason, [])
        if len(first) < _EXAMPLES_PER_REASON:
            first.append(Rejection(error.record_id, error.reason, error.message, position, row))

    def first_rejection(self) -> Rejection:
        """The one that stands first in the file."""
        return min((first[0] for first in self.examples.values()), key=lambda rejection: rejection.row)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), **{name: dict(getattr(self, name)) for name in _COUNTERS}}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SourceReport":
        examples = {
            reason: [Rejection(**rejection) for rejection in first] for reason, first in values["examples"].items()
        }
        counters = {name: Counter(values[name]) for name in _COUNTERS}
        return cls(**{**values, **counters, "examples": examples})


@dataclass
class MixtureReport:
    """What a mixture is: per source what was read, kept, dropped and used, and digests of content and order."""

    sources: list[SourceReport]
    seed: int = 0
    order_digest: str = ""  # of the rows in their order: what an epoch's permutation permutes

    @property
    def num_used(self) -> int:
        return sum(source.num_used for source in self.sources)

    @property
    def num_dropped(self) -> int:
        return sum(source.dropped.total() for source in self.sources)

    @property
    def dropped(self) -> Counter[str]:
        """Records left out, by reason, over all sources."""
        return sum((source.dropped for source in self.sources), Counter())

    @property
    def digest(self) -> str:
        """Of the name, the content and the share of every source, in whatever order they stand."""
        lines = sorted(f"{source.name} {source.digest} {source.num_used}" for source in self.sources)
        return "sha256:" + hashlib.sha256("\n".join([*lines, f"seed {self.seed}"]).encode()).hexdigest()

    def content_key(self) -> str | None:
        """A word for the rows in their order, images included; None where images were not read as a whole."""
        covers_images = all("image bytes" in source.digest_covers for source in self.sources if source.num_images)
        return self.order_digest if covers_images else None

    def proportion(self, source: SourceReport) -> float:
        return source.num_used / self.num_used if self.num_used else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, for `run.json` and the card."""
        return {
            "seed": self.seed,
            "num_used": self.num_used,
            "num_dropped": self.num_dropped,
            "dropped": dict(self.dropped),
            "digest": self.digest,
            "order_digest": self.order_digest,
            "sources": [{**source.to_dict(), "proportion": self.proportion(source)} for source in self.sources],
        }

    def to_markdown(self) -> str:
        """The mixture table of the model card, and under it what was left out."""
        lines = [
            "| source | read | kept | used | proportion | images | license |",
            "|---|---:|---:|---:|---:|---:|---|",
        ]
        lines += [
            f"| {_cell(source.name)} | {source.num_read:,} | {source.num_kept:,} | {source.num_used:,} "
            f"| {self.proportion(source):.1%} | {source.num_images:,} | {_cell(source.license or 'not stated')} |"
            for source in self.sources
        ]
        if self.num_dropped:
            lines += ["", "Left out:", "", "| source | reason | records | for example |", "|---|---|---:|---|"]
            lines += [
                f"| {_cell(source.name)} | {reason} | {count:,} | {_cell(source.examples[reason][0].record_id)} |"
                for source in self.sources
                for reason, count in sorted(source.dropped.items())
            ]
        filtered = [(s, name, count) for s in self.sources for name, count in sorted(s.filtered.items())]
        if filtered:
            lines += ["", "Not wanted:", "", "| source | filter | records |", "|---|---|---:|"]
            lines += [f"| {_cell(source.name)} | {name} | {count:,} |" for source, name, count in filtered]
        return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


@dataclass
class LengthReport:
    """What became of the examples once the chat template and `max_length` were known."""

    max_length: int | None
    too_long: str
    num_examples: int = 0
    num_tokens: int = 0  # as they will be trained on, image positions included
    num_with_image: int = 0
    longest: int = 0
    num_over_long: int = 0  # longer than max_length: cut, dropped or refused
    num_truncated: int = 0
    dropped: Counter[str] = field(default_factory=Counter)  # reason -> number of examples
    beyond_budget: Counter[str] = field(default_factory=Counter)  # source -> examples that its token budget left out
    rows_digest: str = ""  # which rows were kept, in their order
    examples: dict[str, list[str]] = field(default_factory=dict)  # reason -> the first few messages

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "dropped": dict(self.dropped), "beyond_budget": dict(self.beyond_budget)}


__all__ = ["LengthReport", "MixtureReport", "Rejection", "SourceReport"]
