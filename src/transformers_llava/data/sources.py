"""SourceConfig to a memory-mapped Dataset of Examples, and a report of every record that is not in it."""

import atexit
import hashlib
import json
import logging
import math
import random
import shutil
import tempfile
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from datasets.arrow_writer import ArrowWriter
from tqdm.auto import tqdm

from transformers_llava.data.archives import is_archive
from transformers_llava.data.formats import RecordFormat, to_example_with_notes
from transformers_llava.data.reading import RawRecord, read_records
from transformers_llava.data.schema import EXAMPLE_FEATURES, Example, ImageReference, RecordError
from transformers_llava.data.verification import ImageVerdict, VerificationLevel, check_level, verify_images


logger = logging.getLogger(__name__)

_EXAMPLES_PER_REASON = 5


@dataclass
class SourceConfig:
    """One data file, how to read it, and how much of it to use."""

    name: str = field(metadata={"help": "Name of the source in reports, error messages and the model card."})
    path: str = field(metadata={"help": "The data file: .json, .jsonl or .parquet."})
    format: RecordFormat = field(default="auto", metadata={"help": "auto, llava, sharegpt or messages."})
    image_root: str | None = field(
        default=None,
        metadata={"help": "Folder, .zip or .tar that image paths start from. Default: the folder of the data file."},
    )
    num_examples: int | None = field(default=None, metadata={"help": "Use so many examples, drawn with `seed`."})
    weight: float | None = field(
        default=None, metadata={"help": "Use this multiple of the examples: 0.5 draws half, 2 takes each twice."}
    )
    seed: int | None = field(default=None, metadata={"help": "Seed of the draw. Default: the seed of the mixture."})
    verify_images: VerificationLevel = field(
        default="decode", metadata={"help": "How closely pictures are looked at: decode, header or none."}
    )
    duplicate_ids: str = field(
        default="keep",
        metadata={"help": "keep (and count: published mixtures reuse image ids) or drop records whose id occurred."},
    )
    licence: str | None = field(default=None, metadata={"help": "Licence of the source, for reports and the card."})
    provenance: str | None = field(default=None, metadata={"help": "Who wrote the answers: people, or which model."})

    def __post_init__(self) -> None:
        if not self.name or not self.path:
            raise ValueError(f"a source needs a name and a path, but has name={self.name!r}, path={self.path!r}.")
        if self.num_examples is not None and self.weight is not None:
            raise ValueError(f"source {self.name!r} has both num_examples and weight. Say how much to use only once.")
        if self.num_examples is not None and self.num_examples < 1:
            raise ValueError(
                f"source {self.name!r} has num_examples={self.num_examples}. Use at least 1, or leave it out."
            )
        if self.weight is not None and not (self.weight > 0 and math.isfinite(self.weight)):
            raise ValueError(f"source {self.name!r} has weight={self.weight}. A weight is a positive number.")
        if self.duplicate_ids not in ("keep", "drop"):
            raise ValueError(f"source {self.name!r} has duplicate_ids={self.duplicate_ids!r}. Use 'keep' or 'drop'.")
        check_level(self.verify_images)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SourceConfig":
        known = set(cls.__dataclass_fields__)
        unknown = set(values) - known
        if unknown:
            raise ValueError(f"a source has the unknown fields {sorted(unknown)}. Known are {sorted(known)}.")
        return cls(**values)


@dataclass
class Rejection:
    """One record that is not in the data set, and why."""

    record_id: str
    reason: str
    message: str
    position: str


@dataclass
class SourceReport:
    """What became of the records of one source. `num_read == num_kept + sum(dropped.values())`, always."""

    name: str
    num_read: int = 0
    num_kept: int = 0  # good records
    num_used: int = 0  # rows in the data set, after `num_examples` or `weight`
    dropped: Counter[str] = field(default_factory=Counter)  # reason -> number of records
    examples: dict[str, list[Rejection]] = field(default_factory=dict)  # reason -> the first few of them
    notes: Counter[str] = field(default_factory=Counter)  # what was changed in records that were kept
    num_repeated_ids: int = 0  # records (kept or not) whose id had occurred before
    num_images: int = 0  # distinct pictures
    digest: str = ""
    digest_covers: str = ""
    licence: str | None = None
    provenance: str | None = None

    def reject(self, error: RecordError, position: str) -> None:
        self.dropped[error.reason] += 1
        first = self.examples.setdefault(error.reason, [])
        if len(first) < _EXAMPLES_PER_REASON:
            first.append(Rejection(error.record_id, error.reason, error.message, position))


def load_source(
    config: SourceConfig, *, strict: bool = False, num_proc: int | None = None, cache_dir: str | Path | None = None
) -> tuple[Dataset, SourceReport]:
    """
    Read, check and store one source.

    Args:
        config (`SourceConfig`):
            What to read.
        strict (`bool`, *optional*, defaults to `False`):
            Stop at the first bad record instead of counting it.
        num_proc (`int`, *optional*):
            Workers that look at the pictures. The result does not depend on it.
        cache_dir (`str`, *optional*):
            Folder for the Arrow file. By default a temporary one that lives as long as the data set.

    Returns:
        `(Dataset, SourceReport)`: Examples with undecoded images, memory-mapped, in file order; and the report.

    Raises:
        `RecordError`: under `strict`, the first bad record.
        `ValueError`: the file cannot be read as a whole, or the configuration makes no sense.
    """
    path = Path(config.path)
    image_root = Path(config.image_root) if config.image_root is not None else path.parent
    _check_root(config.name, image_root)
    report = SourceReport(config.name, licence=config.licence, provenance=config.provenance)
    parsed = _parse(config, path, image_root, report, strict=strict, folder=_storage(cache_dir))
    verdicts = verify_images(parsed.references, level=config.verify_images, num_proc=num_proc, name=config.name)
    kept = _usable(parsed, verdicts, report, strict=strict)
    report.num_kept, report.num_images = len(kept), len(parsed.references)
    report.digest = _content_digest(parsed, verdicts, kept)
    report.digest_covers = "messages and image bytes" if config.verify_images == "decode" else "messages only"
    rows = _draw(config, kept)
    report.num_used = len(rows)
    dataset = parsed.dataset if rows == range(len(parsed.dataset)) else parsed.dataset.select(rows)
    logger.info("source %s: %d of %d records kept, %d used", config.name, report.num_kept, report.num_read, len(rows))
    return dataset, report


@dataclass
class _Parsed:
    """Records that have the right shape; whether their pictures are good is not known yet."""

    dataset: Dataset
    references: list[ImageReference]  # distinct pictures
    positions: array  # per example: where it stands in the file
    first_image: array  # per example, and one more: where its pictures begin in `image_numbers`
    image_numbers: array  # into `references`
    digests: list[bytes]  # per example: SHA-256 of its messages


def _parse(
    config: SourceConfig, path: Path, image_root: Path, report: SourceReport, *, strict: bool, folder: Path
) -> _Parsed:
    seen_ids: set[str] = set()
    numbers: dict[str, int] = {}
    references: list[ImageReference] = []
    positions, first_image, image_numbers, digests = array("q"), array("q", [0]), array("q"), []
    file = folder / "examples.arrow"
    writer = ArrowWriter(path=str(file), features=EXAMPLE_FEATURES)
    for raw in tqdm(read_records(path), desc=f"records of {config.name}", unit="record", delay=2.0, mininterval=0.5):
        report.num_read += 1
        try:
            example, notes = _convert(raw, config, image_root)
            if example["id"] in seen_ids:
                report.num_repeated_ids += 1
                _refuse_duplicate(config, example["id"])
            seen_ids.add(example["id"])
        except RecordError as error:
            if strict:
                raise
            report.reject(error, raw.position)
            continue
        report.notes.update(notes)
        for reference in example["images"]:
            key = reference["path"] if reference["bytes"] is None else hashlib.sha256(reference["bytes"]).hexdigest()
            number = numbers.setdefault(str(key), len(references))
            if number == len(references):
                references.append(reference)
            image_numbers.append(number)
        first_image.append(len(image_numbers))
        positions.append(report.num_read - 1)
        digests.append(_message_digest(example))
        writer.write(example)
    writer.finalize()
    return _Parsed(Dataset.from_file(str(file)), references, positions, first_image, image_numbers, digests)


def _convert(raw: RawRecord, config: SourceConfig, image_root: Path) -> tuple[Example, tuple[str, ...]]:
    if raw.error is not None:
        raise raw.error.of(f"{config.name}/{raw.position}")
    return to_example_with_notes(
        raw.record, source=config.name, image_root=image_root, format=config.format, default_id=raw.position
    )


def _refuse_duplicate(config: SourceConfig, record_id: str) -> None:
    if config.duplicate_ids == "drop":
        raise RecordError(
            "duplicate_id",
            "an earlier record has the same id. Only the first is kept; set `duplicate_ids: keep` to keep all.",
            record_id=f"{config.name}/{record_id}",
        )


def _usable(parsed: _Parsed, verdicts: list[ImageVerdict], report: SourceReport, *, strict: bool) -> list[int]:
    """Rows whose pictures are all good."""
    if all(verdict.error is None for verdict in verdicts):
        return list(range(len(parsed.dataset)))
    kept = []
    for row in range(len(parsed.dataset)):
        images = parsed.image_numbers[parsed.first_image[row] : parsed.first_image[row + 1]]
        error = next((verdicts[number].error for number in images if verdicts[number].error is not None), None)
        if error is None:
            kept.append(row)
            continue
        error = error.of(f"{report.name}/{parsed.dataset[row]['id']}")
        if strict:
            raise error
        report.reject(error, f"record {parsed.positions[row]}")
    return kept


def _draw(config: SourceConfig, kept: list[int]) -> range | list[int]:
    """The rows to use, in file order: a draw without repetition for the broken part, whole copies for the rest."""
    wanted = len(kept)
    if config.num_examples is not None:
        wanted = config.num_examples
        if wanted > len(kept):
            logger.warning(
                "source %s: num_examples=%d, but only %d records are usable; all of them are used.",
                config.name, wanted, len(kept),
            )  # fmt: skip
            wanted = len(kept)
    elif config.weight is not None:
        wanted = round(config.weight * len(kept))
    if wanted == len(kept):
        return kept if kept != list(range(len(kept))) else range(len(kept))
    copies, rest = divmod(wanted, max(1, len(kept)))
    drawn = random.Random(f"{config.name}/{config.seed or 0}").sample(range(len(kept)), rest)
    return sorted(kept * copies + [kept[index] for index in drawn])


def _message_digest(example: Example) -> bytes:
    """Content without its place: no id, no source, no path. An image part is a mark between the texts."""
    turns = [
        [message["role"], [part.get("text") if part["type"] == "text" else None for part in message["content"]]]
        for message in example["messages"]
    ]
    return hashlib.sha256(json.dumps(turns, ensure_ascii=False, separators=(",", ":")).encode()).digest()


def _content_digest(parsed: _Parsed, verdicts: list[ImageVerdict], kept: list[int]) -> str:
    """SHA-256 over the sorted digests of the kept records: the same for any order, folder, format or file time."""
    records = []
    for row in kept:
        images = parsed.image_numbers[parsed.first_image[row] : parsed.first_image[row + 1]]
        record = hashlib.sha256(parsed.digests[row])
        for number in images:
            record.update((verdicts[number].sha256 or "").encode())
        records.append(record.digest())
    return "sha256:" + hashlib.sha256(b"".join(sorted(records))).hexdigest()


def _check_root(name: str, image_root: Path) -> None:
    exists = image_root.is_file() if is_archive(image_root) else image_root.is_dir()
    if not exists:
        raise ValueError(
            f"source {name!r} has the image root {str(image_root)!r}, which does not exist. Every picture would be "
            "missing. Correct `image_root`."
        )


def _storage(cache_dir: str | Path | None) -> Path:
    if cache_dir is not None:
        Path(cache_dir).mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="source-", dir=cache_dir))
    folder = Path(tempfile.mkdtemp(prefix="llava-data-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


__all__ = ["Rejection", "SourceConfig", "SourceReport", "load_source"]
