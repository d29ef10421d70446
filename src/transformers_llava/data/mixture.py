"""MixtureConfig to one Dataset of Examples, and a report that says exactly what is in it and what is not."""

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from datasets import Dataset, concatenate_datasets

from transformers_llava.data.sources import SourceConfig, SourceReport, load_source


@dataclass
class MixtureConfig:
    """Sources in their order, and the seed of their draws."""

    sources: list[SourceConfig] = field(metadata={"help": "What to mix; the data set is their concatenation."})
    seed: int = field(default=0, metadata={"help": "Seed of the draws of sources that have none of their own."})

    def __post_init__(self) -> None:
        self.sources = [
            source if isinstance(source, SourceConfig) else SourceConfig.from_dict(source) for source in self.sources
        ]
        names = Counter(source.name for source in self.sources)
        repeated = sorted(name for name, count in names.items() if count > 1)
        if repeated:
            raise ValueError(f"the mixture names {repeated} more than once. Reports need one name per source.")
        if not self.sources:
            raise ValueError("the mixture has no source. Name at least one under `sources` (or `train_data`).")


@dataclass
class MixtureReport:
    """What the mixture is: per source what was read, kept, dropped and used, with digests of the content."""

    sources: list[SourceReport]
    seed: int = 0

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
        """Digest of the mixture: of the name, the content digest and the share of every source, in any order."""
        lines = sorted(f"{source.name} {source.digest} {source.num_used}" for source in self.sources)
        return "sha256:" + hashlib.sha256("\n".join([*lines, f"seed {self.seed}"]).encode()).hexdigest()

    def proportion(self, source: SourceReport) -> float:
        return source.num_used / self.num_used if self.num_used else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, for `run.json` and the card."""
        sources = []
        for source in self.sources:
            values = asdict(source)
            values["dropped"], values["notes"] = dict(source.dropped), dict(source.notes)
            sources.append({**values, "proportion": self.proportion(source)})
        return {
            "seed": self.seed,
            "num_used": self.num_used,
            "num_dropped": self.num_dropped,
            "dropped": dict(self.dropped),
            "digest": self.digest,
            "sources": sources,
        }

    def to_markdown(self) -> str:
        """The mixture table of the model card, and under it what was left out."""
        lines = [
            "| source | read | kept | used | proportion | pictures | licence |",
            "|---|---:|---:|---:|---:|---:|---|",
        ]
        lines += [
            f"| {_cell(source.name)} | {source.num_read:,} | {source.num_kept:,} | {source.num_used:,} "
            f"| {self.proportion(source):.1%} | {source.num_images:,} | {_cell(source.licence or 'not stated')} |"
            for source in self.sources
        ]
        if self.num_dropped:
            lines += ["", "Left out:", "", "| source | reason | records | for example |", "|---|---|---:|---|"]
            lines += [
                f"| {_cell(source.name)} | {reason} | {count:,} | {_cell(source.examples[reason][0].record_id)} |"
                for source in self.sources
                for reason, count in sorted(source.dropped.items())
            ]
        return "\n".join(lines) + "\n"


def build_mixture(
    config: MixtureConfig, *, strict: bool = False, num_proc: int | None = None, cache_dir: str | Path | None = None
) -> tuple[Dataset, MixtureReport]:
    """
    Read, check and concatenate the sources. The result depends on the files, the configuration and the seeds alone.

    Args:
        config (`MixtureConfig`):
            The sources and the seed.
        strict (`bool`, *optional*, defaults to `False`):
            Raise the `RecordError` of the first bad record instead of counting it.
        num_proc (`int`, *optional*):
            Workers that look at the pictures.
        cache_dir (`str`, *optional*):
            Where the Arrow files go.

    Raises:
        `RecordError`: under `strict`.
        `ValueError`: a file cannot be read at all, or not a single record is usable.
    """
    parts, reports = [], []
    for source in config.sources:
        seeded = source if source.seed is not None else replace(source, seed=config.seed)
        dataset, source_report = load_source(seeded, strict=strict, num_proc=num_proc, cache_dir=cache_dir)
        parts.append(dataset)
        reports.append(source_report)
    report = MixtureReport(reports, config.seed)
    if report.num_used == 0:
        raise ValueError(
            f"no record of the mixture is usable ({report.num_dropped} dropped: {dict(report.dropped)}). "
            f"There is nothing to train on. The first: {_first_rejection(reports)}"
        )
    return concatenate_datasets([part for part in parts if len(part)]), report


def _first_rejection(reports: list[SourceReport]) -> str:
    rejections = [first for report in reports for examples in report.examples.values() for first in examples]
    return (
        f"record '{rejections[0].record_id}': {rejections[0].message}" if rejections else "the files hold no record."
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


__all__ = ["MixtureConfig", "MixtureReport", "build_mixture"]
