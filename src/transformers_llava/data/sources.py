"""SourceConfig to a memory-mapped Dataset of Examples, and a report of every record that is not in it."""

import hashlib
import logging
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset

from transformers_llava.artifacts.limits import MAX_SOURCE_WEIGHT
from transformers_llava.data.archives import check_archive, is_archive
from transformers_llava.data.drawing import check_sampling, draw_rows
from transformers_llava.data.fields import Kind, check_fields, shown
from transformers_llava.data.filtering import RecordFilter
from transformers_llava.data.formats import RecordFormat
from transformers_llava.data.keeping import default_cache_dir, only_one
from transformers_llava.data.parsing import ParsedSource, ParseRequest, parse_source
from transformers_llava.data.provenance import Download, SourcePart, count_by_folder
from transformers_llava.data.reading import HUB_SCHEME
from transformers_llava.data.remote import fetch_image_root
from transformers_llava.data.reports import SourceReport
from transformers_llava.data.verification import ImageVerdict, VerificationLevel, check_level, verify_images


logger = logging.getLogger(__name__)

RowOrder = Literal["file", "content"]
AMOUNTS = ("num_examples", "weight", "num_tokens", "sampling")  # how much of a source: at most one of them
_TEXTS = (
    "name",
    "path",
    "format",
    "image_root",
    "sampling",
    "revision",
    "split",
    "verify_images",
    "remote_images",
    "duplicate_ids",
    "licence",
    "licence_url",
    "licence_revision",
    "provenance",
    "teacher",
    "teacher_terms",
)
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(_TEXTS, "text"),
    **dict.fromkeys(("num_examples", "num_tokens", "seed"), "integer"),
    "weight": "number",
    "collapse_markers": "bool",
    "parts": "list",
    "downloads": "list",
}


@dataclass
class SourceConfig:
    """One data file, how to read it, and how much of it to use."""

    name: str = field(metadata={"help": "Name of the source in reports, error messages and the model card."})
    path: str = field(
        metadata={"help": "File (.json, .jsonl, .parquet), folder of a data set, or hf://datasets/OWNER/NAME."}
    )
    format: RecordFormat = field(default="auto", metadata={"help": "auto, llava, sharegpt or messages."})
    image_root: str | None = field(
        default=None,
        metadata={
            "help": "Folder, .zip or .tar that image paths start from, here or as "
            "hf://datasets/OWNER/NAME@COMMIT/PATH. Default: the folder of the data file."
        },
    )
    num_examples: int | None = field(default=None, metadata={"help": "Use so many examples, drawn with `seed`."})
    weight: float | None = field(
        default=None, metadata={"help": "Use this multiple of the examples: 0.5 draws half, 2 takes each twice."}
    )
    num_tokens: int | None = field(
        default=None,
        metadata={"help": "Token budget: use examples, drawn with `seed`, until the next would exceed it."},
    )
    sampling: str | None = field(
        default=None,
        metadata={"help": "LLaVA-NeXT's strategy: all, first:N, end:N or random:N; N may be a percentage."},
    )
    seed: int | None = field(default=None, metadata={"help": "Seed of the draw. Default: the seed of the mixture."})
    revision: str | None = field(default=None, metadata={"help": "Commit of a Hub repository, all 40 digits."})
    split: str = field(default="train", metadata={"help": "Split of a folder or Hub repository."})
    verify_images: VerificationLevel = field(
        default="decode", metadata={"help": "How closely pictures are looked at: decode, header or none."}
    )
    remote_images: Literal["refuse", "fetch"] = field(
        default="refuse",
        metadata={
            "help": "What happens to a picture that is an http address: refuse, or fetch it once into the cache."
        },
    )
    duplicate_ids: Literal["keep", "drop"] = field(
        default="keep",
        metadata={
            "help": "What happens to a record whose id occurred before: keep (and count: published mixtures use the "
            "id of a picture for several records) or drop."
        },
    )
    collapse_markers: bool = field(
        default=False,
        metadata={"help": "Make one of several <image> in a turn, as LLaVA does; else such a record may be refused."},
    )
    filters: RecordFilter | None = field(
        default=None, metadata={"help": "What records must be like: " + ", ".join(RecordFilter.__dataclass_fields__)}
    )
    licence: str | None = field(default=None, metadata={"help": "Licence of the source, for reports and the card."})
    licence_url: str | None = field(default=None, metadata={"help": "Where the licence is stated."})
    licence_revision: str | None = field(default=None, metadata={"help": "Commit at which it was stated so."})
    provenance: str | None = field(default=None, metadata={"help": "Who wrote the answers: human, or model."})
    teacher: str | None = field(default=None, metadata={"help": "Model that wrote the answers, where one did."})
    teacher_terms: str | None = field(default=None, metadata={"help": "Terms of that model's outputs."})
    parts: list[SourcePart] = field(
        default_factory=list,
        metadata={"help": "Published data sets inside the file, with their counts; `llava data verify` compares."},
    )
    downloads: list[Download] = field(
        default_factory=list, metadata={"help": "What to fetch from where; `llava data download-plan` prints it."}
    )

    def __post_init__(self) -> None:
        name = self.name if isinstance(self.name, str) else "?"
        check_fields(f"source {name!r}", vars(self), _KINDS)
        self.parts, self.downloads = self.parts or [], self.downloads or []
        if not self.name or not self.path:
            raise ValueError(f"a source needs a name and a path, but has name={self.name!r}, path={self.path!r}.")
        given = [name for name in AMOUNTS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"source {self.name!r} has {' and '.join(given)}. Say only once how much of it to use.")
        if self.num_examples is not None and self.num_examples < 1:
            raise ValueError(f"source {self.name!r} has num_examples={self.num_examples}; use at least 1.")
        if self.num_tokens is not None and self.num_tokens < 1:
            raise ValueError(f"source {self.name!r} has num_tokens={self.num_tokens}; use at least 1.")
        if self.weight is not None and not 0 < self.weight <= MAX_SOURCE_WEIGHT:  # of nan neither is true
            raise ValueError(
                f"source {self.name!r} has weight={self.weight}. A weight is a positive number, of at most "
                f"{MAX_SOURCE_WEIGHT}: every record would be used that often."
            )
        if self.sampling is not None:
            check_sampling(self.name, self.sampling)
        if self.duplicate_ids not in ("keep", "drop"):
            raise ValueError(f"source {self.name!r} has duplicate_ids={self.duplicate_ids!r}. Use 'keep' or 'drop'.")
        if self.remote_images not in ("refuse", "fetch"):
            raise ValueError(
                f"source {self.name!r} has remote_images={self.remote_images!r}. Use 'refuse' or 'fetch'."
            )
        check_level(self.verify_images)
        if self.filters is not None and not isinstance(self.filters, RecordFilter):
            self.filters = RecordFilter.from_dict(self.filters, self.name)
        if self.format not in ("auto", "llava", "sharegpt", "messages"):
            raise ValueError(
                f"source {self.name!r} has format={self.format!r}. Use auto, llava, sharegpt or messages."
            )
        self.parts = [p if isinstance(p, SourcePart) else SourcePart.from_dict(p, self.name) for p in self.parts]
        self.downloads = [
            d if isinstance(d, Download) else Download.from_dict(d, self.name) for d in self.downloads or ()
        ]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SourceConfig":
        if not isinstance(values, dict):
            raise ValueError(f"a source is {shown(values)}, not a block of fields with a name and a path.")
        known = set(cls.__dataclass_fields__)
        unknown = [shown(name).strip("'") for name in values if name not in known]
        if unknown:
            raise ValueError(f"a source has the unknown fields {sorted(unknown)}. Known are {sorted(known)}.")
        if "name" not in values or "path" not in values:
            raise ValueError(f"a source needs a name and a path, but has only {sorted(values)}.")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """What differs from the defaults, as a mixture file has it."""
        values: dict[str, Any] = {"name": self.name, "path": self.path}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in values or value in (item.default, []):
                continue
            if isinstance(value, RecordFilter):
                value = value.to_dict()
            elif isinstance(value, list):
                value = [{k: v for k, v in asdict(part).items() if v is not None} for part in value]
            values[item.name] = value
        return values


@dataclass
class LoadedSource:
    """A source and the digests by which a mixture proves itself."""

    dataset: Dataset
    report: SourceReport
    row_digests: np.ndarray  # (num_rows, 32) content of each row, in the order of the data set


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
            Where parsed files are kept, by the content of the file; see `default_cache_dir`.

    Returns:
        `(Dataset, SourceReport)`: Examples with undecoded images, memory-mapped, in file order; and the report.

    Raises:
        `RecordError`: under `strict`, the first bad record.
        `ValueError`: the file cannot be read as a whole, or the configuration makes no sense.
    """
    loaded = load_source_with_digests(config, strict=strict, num_proc=num_proc, cache_dir=cache_dir)
    return loaded.dataset, loaded.report


def load_source_with_digests(
    config: SourceConfig,
    *,
    strict: bool = False,
    num_proc: int | None = None,
    cache_dir: str | Path | None = None,
    row_order: RowOrder = "file",
    recheck_images: bool = False,
) -> LoadedSource:
    """`load_source`, and the content digest of each row. With `row_order="content"` the rows are sorted by it."""
    request = ParseRequest(
        name=config.name,
        path=config.path,
        image_root=image_root_of(config),
        format=config.format,
        drop_duplicate_ids=config.duplicate_ids == "drop",
        revision=config.revision,
        split=config.split,
        filters=config.filters,
        allow_remote=config.remote_images == "fetch",
        collapse_markers=config.collapse_markers,
    )
    parsed, verdicts = _look(
        request, config.verify_images, strict=strict, num_proc=num_proc, cache_dir=cache_dir, recheck=recheck_images
    )
    report = parsed.report
    report.licence, report.licence_url, report.provenance = config.licence, config.licence_url, config.provenance
    if config.parts:
        report.folders = count_by_folder(parsed, request.image_root)
    kept = _usable_rows(parsed, verdicts, strict=strict)
    digests = _content_digests(parsed, verdicts, kept)
    if row_order == "content":
        order = sorted(range(len(kept)), key=lambda place: digests[place].tobytes())
        kept, digests = [kept[place] for place in order], digests[order]
    report.num_kept = len(kept)
    report.num_images = len(parsed.image_paths)
    report.digest = "sha256:" + hashlib.sha256(b"".join(sorted(map(bytes, digests)))).hexdigest()
    report.digest_covers = "messages and image bytes" if config.verify_images == "decode" else "messages"
    places = draw_rows(
        len(kept),
        name=config.name,
        seed=config.seed or 0,
        num_examples=config.num_examples,
        weight=config.weight,
        sampling=config.sampling,
    )
    rows = [kept[place] for place in places]
    report.num_used = len(rows)
    logger.info("source %s: %d of %d records kept, %d used", config.name, len(kept), report.num_read, len(rows))
    dataset = parsed.dataset if rows == list(range(len(parsed.dataset))) else parsed.dataset.select(rows)
    return LoadedSource(dataset, report, digests[places])


def _look(
    request: ParseRequest,
    level: VerificationLevel,
    *,
    strict: bool,
    num_proc: int | None,
    cache_dir: str | Path | None,
    recheck: bool,
) -> tuple[ParsedSource, list[ImageVerdict]]:
    """
    Parse a source and look at its pictures; of several processes that share a cache, one does, and the others wait.

    Without that every rank of a machine would read all records and decode all pictures, each with a thread per core.
    Those that waited read the result at the same time, outside of the lock.
    """
    root = Path(cache_dir) if cache_dir is not None else default_cache_dir()
    key = request.key()

    def look() -> tuple[ParsedSource, list[ImageVerdict]]:
        parsed = parse_source(request, strict=strict, cache_dir=root, key=key)
        return parsed, verify_images(parsed, level=level, num_proc=num_proc, recheck=recheck)

    with only_one(root / "locks" / f"{key}.{level}"):
        if not os.path.isfile(root / key / f"verdicts.{level}.parquet"):  # also one that cannot be read
            return look()
    return look()


def image_root_of(config: SourceConfig) -> Path | None:
    """The folder or archive that the image paths of a source start from."""
    if config.image_root is None:
        if config.path.startswith(HUB_SCHEME):
            return None
        return Path(os.path.abspath(config.path)).parent
    if config.image_root.startswith(HUB_SCHEME):
        return fetch_image_root(config.image_root)
    image_root = Path(os.path.abspath(config.image_root))  # a worker, or a later run, may stand elsewhere
    check_archive(image_root)
    exists = image_root.is_file() if is_archive(image_root) else image_root.is_dir()
    if not exists:
        raise ValueError(
            f"source {config.name!r} has the image root {str(image_root)!r}, which does not exist. Every picture "
            "would be missing. Correct `image_root`."
        )
    return image_root


def _usable_rows(parsed: ParsedSource, verdicts: list[ImageVerdict], *, strict: bool) -> list[int]:
    """Rows whose pictures are all good; the others go into the report."""
    is_bad = np.array([verdict.reason is not None for verdict in verdicts], dtype=bool)
    if not is_bad.any():
        return list(range(len(parsed.dataset)))
    num_bad = np.concatenate([[0], np.cumsum(is_bad[parsed.image_numbers])])
    is_usable = num_bad[parsed.first_image[1:]] == num_bad[parsed.first_image[:-1]]
    for row in np.flatnonzero(~is_usable).tolist():
        error = next(error for number in parsed.images_of(row) if (error := verdicts[number].error()) is not None)
        named = error.of(f"{parsed.report.name}/{parsed.dataset.data.column('id')[row].as_py()}")
        if strict:
            raise named
        position = int(parsed.positions[row])
        parsed.report.reject(named, f"record {position}", row=position)
    return np.flatnonzero(is_usable).tolist()


def _content_digests(parsed: ParsedSource, verdicts: list[ImageVerdict], kept: list[int]) -> np.ndarray:
    """(num_kept, 32): what is said and, where pictures were decoded, their bytes; not where or in which format."""
    joined = bytearray()
    for row in kept:
        record = hashlib.sha256(parsed.digests[row])
        for number in parsed.images_of(row):
            record.update((verdicts[number].sha256 or "").encode())
        joined += record.digest()
    return np.frombuffer(bytes(joined), dtype=np.uint8).reshape(-1, 32)


__all__ = [
    "AMOUNTS",
    "LoadedSource",
    "RowOrder",
    "SourceConfig",
    "image_root_of",
    "load_source",
    "load_source_with_digests",
]
