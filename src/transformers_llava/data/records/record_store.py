"""Parse a data file into Examples on disk that have the right shape; their images are not looked at yet."""

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from datasets import Dataset
from datasets.arrow_writer import ArrowWriter
from tqdm.auto import tqdm

from transformers_llava.data.cache import (
    default_cache_dir,
    private_folder,
    remove_leftovers,
    warn_unkept,
    write_whole,
)
from transformers_llava.data.records.filters import RecordFilter
from transformers_llava.data.records.readers import RawRecord, content_key, read_records
from transformers_llava.data.records.record_formats import RecordRules, to_example
from transformers_llava.data.reports import SourceReport
from transformers_llava.data.schema import EXAMPLE_FEATURES, Example, ImageReference, RecordError


logger = logging.getLogger(__name__)

# Contract: raised by one whenever the same file would be parsed into other Examples or another report, so that what an
# older version kept is not taken again. `tests/data/records/test_record_store.py` fails where it was forgotten.
PARSER_VERSION = 2


@dataclass(frozen=True)
class ParseRequest:
    """All that decides what a file is parsed into."""

    rules: RecordRules
    path: str
    drop_duplicate_ids: bool = False
    revision: str | None = None
    split: str = "train"
    filters: RecordFilter | None = None

    def key(self) -> str:
        """Name of the cache folder: changes when the content of the file or any argument does."""
        rules = self.rules
        parts = [
            str(PARSER_VERSION),
            rules.source,
            content_key(self.path, revision=self.revision, split=self.split),
            str(rules.image_root),
            rules.format,
            str(self.drop_duplicate_ids),
            str(self.filters),
            str(rules.allow_remote),
            str(rules.collapse_markers),
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


@dataclass
class ParsedSource:
    """
    The well-formed records of one file.

    Row i has the distinct images with the numbers `image_numbers[first_image[i] : first_image[i + 1]]`.
    """

    folder: Path
    dataset: Dataset  # memory-mapped Examples
    report: SourceReport  # what was read and rejected so far
    positions: np.ndarray  # (num_rows,) which record of the file each row is
    digests: np.ndarray  # (num_rows, 32) SHA-256 of the messages
    first_image: np.ndarray  # (num_rows + 1,)
    image_numbers: np.ndarray
    image_paths: list[str | None]  # per distinct image; None: its bytes are in the record
    image_places: np.ndarray  # (num_images, 2) row and place in the row where it occurs first

    def images_of(self, row: int) -> list[int]:
        return self.image_numbers[self.first_image[row] : self.first_image[row + 1]].tolist()

    def reference(self, number: int) -> ImageReference:
        path = self.image_paths[number]
        if path is not None:
            return {"bytes": None, "path": path}
        row, place = self.image_places[number].tolist()
        return self.dataset.data.column("images")[row].as_py()[place]


def parse_source(
    request: ParseRequest,
    *,
    strict: bool = False,
    cache_dir: str | Path | None = None,
    key: str | None = None,
) -> ParsedSource:
    """
    Parse a file, or take the result of an earlier time.

    Args:
        request (`ParseRequest`): What to parse, and how.
        strict (`bool`, *optional*, defaults to `False`): Raise the first bad record's error.
        cache_dir (`str` or `Path`, *optional*): Where the result is kept, and was; see `default_cache_dir`. Where it
            cannot be, it lies in a temporary folder of this process.
        key (`str`, *optional*): `request.key()`, where the caller knows it already.

    Raises:
        `RecordError`: under `strict`, the first record that has not the right shape.
        `ValueError`: the file cannot be read.
    """
    root = Path(cache_dir) if cache_dir is not None else default_cache_dir()
    folder = root / (request.key() if key is None else key)
    parsed = _load_kept(folder)
    if parsed is None:
        parsed = _parse(folder, request, strict=strict)
    if strict and parsed.report.dropped:  # parsed leniently at an earlier time
        raise parsed.report.first_rejection().error()
    return parsed


def _load_kept(folder: Path) -> ParsedSource | None:
    try:
        return _load(folder)
    except FileNotFoundError:
        return None
    except Exception as error:  # cut short by a full disk, of another user, …: as if there were none
        warn_unkept(folder, error)
        if not isinstance(error, PermissionError):
            shutil.rmtree(folder, ignore_errors=True)
        return None


def _parse(folder: Path, request: ParseRequest, *, strict: bool) -> ParsedSource:
    """Into the cache, or else, where that cannot be written, into a folder of this process alone."""
    remove_leftovers(folder.parent)

    def write(unfinished: Path) -> None:
        unfinished.mkdir()  # with the modes of any new folder: another user may read it
        _Writer(unfinished, request, strict=strict).run()

    try:
        write_whole(folder, write)
        if (parsed := _load_kept(folder)) is not None:
            return parsed
    except OSError as error:
        warn_unkept(folder, error)
    try:
        private = private_folder()
        _Writer(private, request, strict=strict).run()
        return _load(private)
    except OSError as error:
        raise ValueError(
            f"source {request.rules.source!r} cannot be read from {request.path!r}, or its records cannot be stored "
            f"({type(error).__name__}: {error}). Check the file's permissions, and the space that is left for the "
            "cache and for temporary files."
        ) from error


class _Writer:
    """One pass over a file; only what is needed to look at the images later stays in memory."""

    def __init__(self, folder: Path, request: ParseRequest, *, strict: bool) -> None:
        self.folder, self.request, self.strict = folder, request, strict
        self.report = SourceReport(request.rules.source)
        self.seen_ids: set[bytes] = set()
        self.image_number: dict[str, int] = {}
        self.image_paths: list[str | None] = []
        self.image_places: list[tuple[int, int]] = []
        self.image_numbers: list[int] = []
        self.first_image = [0]
        self.positions: list[int] = []
        self.digests: list[bytes] = []

    def run(self) -> None:
        request = self.request
        records = read_records(request.path, revision=request.revision, split=request.split)
        with ArrowWriter(path=str(self.folder / "examples.arrow"), features=EXAMPLE_FEATURES) as writer:
            for raw in tqdm(
                records, desc=f"records of {request.rules.source}", unit="record", delay=2.0, mininterval=0.5
            ):
                example = self._accept(raw)
                self.report.num_read += 1
                if example is not None:
                    self._remember(example)
                    writer.write(example)
            writer.finalize()
        images = {"path": self.image_paths, "place": self.image_places}
        schema = pyarrow.schema({"path": pyarrow.string(), "place": pyarrow.list_(pyarrow.int64(), 2)})
        pyarrow.parquet.write_table(pyarrow.table(images, schema=schema), self.folder / "images.parquet")
        np.savez(
            self.folder / "rows.npz",
            positions=np.array(self.positions, dtype=np.int64),
            digests=np.frombuffer(b"".join(self.digests), dtype=np.uint8).reshape(-1, 32),
            first_image=np.array(self.first_image, dtype=np.int64),
            image_numbers=np.array(self.image_numbers, dtype=np.int64),
        )
        (self.folder / "report.json").write_text(json.dumps(self.report.to_dict()), encoding="utf-8")

    def _accept(self, raw: RawRecord) -> Example | None:
        request = self.request
        try:
            if raw.error is not None:
                raise raw.error.with_record_id(f"{request.rules.source}/{raw.position}")
            example, notes = to_example(raw.record, request.rules, raw.position)
            self._check_id(example["id"])
        except RecordError as error:
            if self.strict:
                raise
            self.report.reject(error, raw.position, row=self.report.num_read)
            return None
        unmet = request.filters and request.filters.unmet(example, request.rules.image_root)
        if unmet:
            self.report.filtered[unmet] += 1
            return None
        self.report.notes.update(notes)
        return example

    def _check_id(self, record_id: str) -> None:
        key = hashlib.blake2b(record_id.encode(), digest_size=8).digest()
        if key in self.seen_ids:
            self.report.num_repeated_ids += 1
            if self.request.drop_duplicate_ids:
                raise RecordError(
                    "duplicate_id",
                    "an earlier record has the same id, and only the first is kept. `duplicate_ids: keep` keeps all.",
                    record_id=f"{self.request.rules.source}/{record_id}",
                )
        self.seen_ids.add(key)

    def _remember(self, example: Example) -> None:
        row = len(self.positions)
        for place, reference in enumerate(example["images"]):
            data = reference["bytes"]
            key = str(reference["path"]) if data is None else hashlib.sha256(data).hexdigest()
            number = self.image_number.setdefault(key, len(self.image_paths))
            if number == len(self.image_paths):
                self.image_paths.append(reference["path"] if data is None else None)
                self.image_places.append((row, place))
            self.image_numbers.append(number)
        self.first_image.append(len(self.image_numbers))
        self.positions.append(self.report.num_read - 1)
        self.digests.append(message_digest(example))


def message_digest(example: Example) -> bytes:
    """Content without its place: no id, no source, no path. An image part is a mark between the texts."""
    turns = [
        [message["role"], [part.get("text") if part["type"] == "text" else None for part in message["content"]]]
        for message in example["messages"]
    ]
    return hashlib.sha256(json.dumps(turns, ensure_ascii=False, separators=(",", ":")).encode()).digest()


def _load(folder: Path) -> ParsedSource:
    rows = np.load(folder / "rows.npz")
    images = pyarrow.parquet.read_table(folder / "images.parquet")
    places: Sequence[Sequence[int]] = images.column("place").to_pylist()
    return ParsedSource(
        folder=folder,
        dataset=Dataset.from_file(str(folder / "examples.arrow")),
        report=SourceReport.from_dict(json.loads((folder / "report.json").read_text(encoding="utf-8"))),
        positions=rows["positions"],
        digests=rows["digests"],
        first_image=rows["first_image"],
        image_numbers=rows["image_numbers"],
        image_paths=images.column("path").to_pylist(),
        image_places=np.array(places, dtype=np.int64).reshape(-1, 2),
    )


__all__ = ["ParseRequest", "ParsedSource", "default_cache_dir", "message_digest", "parse_source"]
