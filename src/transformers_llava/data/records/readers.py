"""Read raw records with their positions from JSON arrays (streamed), JSON lines, Parquet and Hub data sets."""

import codecs
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow
import pyarrow.parquet

from transformers_llava.data.schema import RecordError


HUB_SCHEME = "hf://datasets/"

_CHUNK = 1 << 22  # 4 MB: a JSON array of a gigabyte is never in memory as a whole
_WHITESPACE = re.compile(r"[ \t\n\r]*")
_NEXT_TOKEN_MARGIN = 32  # no JSON token but a string is longer, so an error this far from the end is a real one


class RawRecord(NamedTuple):
    """`record` as parsed, or the error that stands in its place. `position` is for people: `line 7`, `element 7`."""

    record: Any
    position: str
    error: RecordError | None = None


def read_records(
    path: str | Path, *, revision: str | None = None, split: str = "train", streaming: bool = False
) -> Iterator[RawRecord]:
    """
    Read records one at a time.

    A line that cannot be parsed is yielded as an error, and reading goes on. An array has no such seams: a syntax
    error in it ends everything, with a `ValueError` that says where.

    Args:
        path (`str`):
            A `.json` array, `.jsonl` / `.ndjson` lines, a `.parquet` table, a folder that `datasets.load_dataset`
            reads, or `hf://datasets/OWNER/NAME` (or `.../NAME/CONFIGURATION`).
        revision (`str`, *optional*):
            Commit of a repository on the Hub; needed there, so that the data is the same tomorrow.
        split (`str`, *optional*, defaults to `"train"`):
            Split of a folder or repository.
        streaming (`bool`, *optional*, defaults to `False`):
            Read a folder or repository as it comes, instead of storing it first. Files are always read so.
    """
    if str(path).startswith(HUB_SCHEME):
        return _read_dataset(str(path), revision, split, streaming)
    path = _existing(path)
    if path.is_dir():
        return _read_dataset(str(path), None, split, streaming)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(path)
    if suffix in (".jsonl", ".ndjson"):
        return _read_lines(path)
    if suffix == ".json":
        return _read_lines(path) if _starts_with_brace(path) else _read_array(path)
    raise ValueError(f"the data file {str(path)!r} ends in {suffix!r}. Known are .json, .jsonl, .ndjson and .parquet.")


def content_key(path: str | Path, *, revision: str | None = None, split: str = "train") -> str:
    """A word that changes when what `read_records` reads does: the digest of a file, the commit of a repository."""
    if str(path).startswith(HUB_SCHEME):
        return f"{path}@{_pinned(str(path), revision)} {split}"
    path = _existing(path)
    digest = hashlib.sha256(path.suffix.encode())
    try:
        if path.is_dir():
            for file in sorted(file for file in path.rglob("*") if file.is_file()):
                digest.update(f"{file.relative_to(path).as_posix()} {split}\0".encode())
                digest.update(_file_digest(file))
        else:
            digest.update(_file_digest(path))
    except OSError as error:
        raise ValueError(f"the data {str(path)!r} cannot be read ({error}). Check its permissions.") from error
    return digest.hexdigest()


def _existing(path: str | Path) -> Path:
    """Raises `ValueError` for what is neither a file nor a folder, or cannot be looked at."""
    path = Path(path)
    if not os.path.isfile(path) and not os.path.isdir(path):
        raise ValueError(f"the data file {str(path)!r} does not exist. Nothing can be read from it. Check `path`.")
    return path


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _read_lines(path: Path) -> Iterator[RawRecord]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            position = f"line {number}"
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if not line.strip():
                continue
            try:
                yield RawRecord(json.loads(line.decode("utf-8")), position)
            except UnicodeDecodeError as error:
                yield _broken(
                    position, "invalid_utf8", f"byte {error.start} of {position} is not UTF-8: {error.reason}."
                )
            except (ValueError, RecursionError) as error:  # also a number of thousands of digits
                yield _broken(
                    position, "invalid_json", f"{position} is not JSON ({error}). Correct or remove the line."
                )


def _broken(position: str, reason: str, message: str) -> RawRecord:
    return RawRecord(None, position, RecordError(reason, message, record_id=position))


def _read_array(path: Path) -> Iterator[RawRecord]:
    with path.open("rb") as stream:
        window = _Window(stream, path)
        window.expect("[")
        number = 0
        if window.peek() == "]":
            return
        while True:
            yield RawRecord(window.value(number), f"element {number}")
            number += 1
            if window.peek() == "]":
                return
            window.expect(",")


class _Window:
    """A moving view on the text of a large JSON file. Bytes that are not UTF-8 become lone surrogates."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self.stream, self.path = stream, path
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="surrogateescape")
        self.json = json.JSONDecoder()
        self.text, self.position, self.at_end = "", 0, False
        self.bytes_before, self.lines_before = 0, 0  # what was cut off at the front, for messages

    def grow(self) -> None:
        consumed = self.text[: self.position]
        self.bytes_before += len(consumed.encode("utf-8", "surrogateescape"))
        self.lines_before += consumed.count("\n")
        rest = self.text[self.position :]
        chunk = self.stream.read(max(_CHUNK, len(rest)))  # doubling: a huge record costs no quadratic time
        self.at_end = not chunk
        self.text, self.position = rest + self.decoder.decode(chunk, final=not chunk), 0

    def peek(self) -> str:
        while True:
            match = _WHITESPACE.match(self.text, self.position)
            assert match is not None
            self.position = match.end()
            if self.position < len(self.text) or self.at_end:
                return self.text[self.position : self.position + 1]
            self.grow()

    def expect(self, character: str) -> None:
        found = self.peek()
        if found != character:
            problem = f"{character!r} was expected, not {found!r}" if found else "the file ends in the middle"
            raise self.error(self.position, problem)
        self.position += 1

    def value(self, number: int) -> Any:
        self.peek()
        while True:
            try:
                value, end = self.json.raw_decode(self.text, self.position)
                if end < len(self.text) or self.at_end:  # a number that touches the border might go on behind it
                    self.position = end
                    return value
            except RecursionError:
                raise self.error(self.position, f"element {number} is nested too deeply") from None
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated string") or (
                    error.pos + _NEXT_TOKEN_MARGIN > len(self.text)
                )
                if self.at_end and is_cut:
                    raise self.error(error.pos, f"the file ends inside element {number} ({error.msg})") from None
                if not is_cut:
                    raise self.error(error.pos, f"{error.msg}, in element {number}") from None
            self.grow()

    def error(self, position: int, problem: str) -> ValueError:
        before = self.text[:position]
        byte = self.bytes_before + len(before.encode("utf-8", "surrogateescape"))
        line = self.lines_before + before.count("\n") + 1
        return ValueError(
            f"{str(self.path)!r} is not a JSON array: {problem}, at line {line}, byte {byte}. Nothing after this "
            "point can be read. Download the file again, or store one record per line as .jsonl: there a "
            "bad line costs one record."
        )


def _starts_with_brace(path: Path) -> bool:
    """Whether a .json file holds one object per line; files of that name do, now and then."""
    with path.open("rb") as stream:
        return stream.read(4096).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{")


def _read_parquet(path: Path) -> Iterator[RawRecord]:
    try:
        number = 0
        with pyarrow.parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=256):  # small: rows may carry the bytes of their images
                for record in _rows(batch):
                    if isinstance(record, UnicodeDecodeError):
                        yield _broken(f"row {number}", "invalid_utf8", f"row {number} is not UTF-8: {record}.")
                        number += 1
                        continue
                    yield RawRecord(
                        {key: value for key, value in record.items() if value is not None}, f"row {number}"
                    )
                    number += 1
    except pyarrow.ArrowException as error:
        raise ValueError(f"{str(path)!r} cannot be read as Parquet ({error}). Download the file again.") from error


def _rows(batch: pyarrow.RecordBatch) -> Iterator[Any]:
    """Rows as dicts; one with a text that is not UTF-8, which Parquet does not check, as the error it gives."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for row in range(len(batch)):
            try:
                yield batch.slice(row, 1).to_pylist()[0]
            except UnicodeDecodeError as error:
                yield error


def _read_dataset(path: str, revision: str | None, split: str, streaming: bool) -> Iterator[RawRecord]:
    number = -1
    try:
        for number, record in enumerate(_open_dataset(path, revision, split, streaming)):
            yield RawRecord({key: value for key, value in record.items() if value is not None}, f"row {number}")
    except ValueError:
        raise
    except Exception as error:  # of `datasets`, of Arrow, of the Hub's client, and of the network beneath it
        where = "" if number < 0 else f" after row {number}"
        raise ValueError(
            f"{path!r} cannot be read as a data set{where} ({type(error).__name__}: {error}). It must hold data files "
            "that the library `datasets` reads, such as .json or .parquet; of a repository, check its name and the "
            "network."
        ) from error


def _open_dataset(path: str, revision: str | None, split: str, streaming: bool) -> Any:
    import datasets

    table: Any
    if path.startswith(HUB_SCHEME):
        repository, configuration = _repository(path)
        table = datasets.load_dataset(
            repository, configuration, split=split, revision=_pinned(path, revision), streaming=streaming
        )
    elif (Path(path) / "dataset_info.json").is_file() and (Path(path) / "state.json").is_file():
        table = datasets.load_from_disk(path)
    else:
        table = datasets.load_dataset(path, split=split, streaming=streaming)
    if not isinstance(table, (datasets.Dataset, datasets.IterableDataset)):
        raise ValueError(f"{path!r} holds the splits {sorted(table)}. Name one of their folders as `path`.")
    if table.features is not None:  # a stream may not know its columns before it is read
        table = table.cast(_undecoded(table.features))
    return table


def _undecoded(features: Any) -> Any:
    """The same features with images as bytes or path."""
    import datasets

    if isinstance(features, datasets.Image):
        return datasets.Image(decode=False)
    if isinstance(features, datasets.List):
        return datasets.List(_undecoded(features.feature), length=features.length)
    if isinstance(features, dict):
        return datasets.Features({name: _undecoded(feature) for name, feature in features.items()})
    return features


def _repository(path: str) -> tuple[str, str | None]:
    parts = path.removeprefix(HUB_SCHEME).split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise ValueError(f"{path!r} is not {HUB_SCHEME}OWNER/NAME or {HUB_SCHEME}OWNER/NAME/CONFIGURATION.")
    return "/".join(parts[:2]), parts[2] if len(parts) == 3 else None


def _pinned(path: str, revision: str | None) -> str:
    if revision is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise ValueError(
            f"{path!r} has the revision {revision!r}. A branch moves, and the data with it: set `revision` to the "
            "40 digits of a commit."
        )
    return revision


__all__ = ["HUB_SCHEME", "RawRecord", "content_key", "read_records"]
