"""Read what stands as text in weights, pickles, images and tables, without running or unpacking the rest."""

import io
import json
import pickletools
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, Protocol, cast

from transformers_llava.artifacts.limits import SCAN_MAX_VALUE_BYTES


class Budget(Protocol):
    """What a reader asks before it reads; see [`Reading`]."""

    bytes_left: int

    def leave(self, reason: str, num_bytes: int) -> None: ...

    def take(self, stream: IO[bytes], size: int) -> bytes: ...

    def skip(self, stream: IO[bytes], size: int, reason: str) -> None: ...


# (where, text), or (where, bytes) for a file inside.
Reader = Callable[[IO[bytes], int, Budget], Iterator[tuple[str, str | bytes]]]

TENSORS = "values of tensors"
PIXELS = "pixels of images"
_LARGE_VALUE = f"values of more than {SCAN_MAX_VALUE_BYTES // 2**20} MiB"
_TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch < 1.6: five pickles, then bare storages
_BATCH_ROWS = 16  # of a table that are in memory at once


def reader_of(start: bytes, name: str) -> Reader | None:
    """The reader of a format, by the first bytes; `None` for texts and what is unknown."""
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return _read_png
    if start.startswith(b"\xff\xd8\xff"):
        return _read_jpeg
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return _read_webp
    if start.startswith(b"PAR1"):
        return _read_parquet
    if len(start) > 9 and start[8:9] == b"{" and start[5:8] == b"\x00\x00\x00":
        return _read_safetensors
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return _read_pickles
    return None


def needs_whole(start: bytes) -> bool:
    """Whether the format is read from its end."""
    return start.startswith((b"PAR1", b"PK"))


def _read_safetensors(stream: IO[bytes], size: int, budget: Budget) -> Iterator[tuple[str, str | bytes]]:
    """The header: what programs noted there, and the names of tensors."""
    (length,) = struct.unpack("<Q", budget.take(stream, 8))
    header = budget.take(stream, min(length, SCAN_MAX_VALUE_BYTES))
    try:
        values = json.loads(header)
        notes = values.pop("__metadata__", {})
        yield "__metadata__", "\n".join(f"{key}: {value}" for key, value in notes.items())
        yield "names of tensors", "\n".join(values)
    except (ValueError, AttributeError, RecursionError):
        yield "header", header.decode("latin-1")
    budget.leave(TENSORS, size - 8 - len(header))


class _Opcodes:
    """A stream for `pickletools`, which asks for as many bytes as a pickle says a value has."""

    def __init__(self, stream: IO[bytes], budget: Budget) -> None:
        self.stream, self.budget, self.num_read = io.BufferedReader(_Raw(stream)), budget, 0

    def read(self, size: int) -> bytes:
        if size > SCAN_MAX_VALUE_BYTES:
            raise ValueError(_LARGE_VALUE)
        content = self.budget.take(self.stream, size)
        self.num_read += len(content)
        return content

    def readline(self) -> bytes:
        line = self.stream.readline(SCAN_MAX_VALUE_BYTES)
        self.num_read += len(line)
        return line


class _Raw(io.RawIOBase):
    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self.stream.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def _read_pickles(stream: IO[bytes], size: int, budget: Budget) -> Iterator[tuple[str, str | bytes]]:
    """The strings that a pickle would make, opcode by opcode; nothing is made."""
    opcodes = _Opcodes(stream, budget)
    most = 5 if opcodes.stream.peek(len(_TORCH_MAGIC)).startswith(_TORCH_MAGIC) else 1000
    texts: list[str] = []
    for _ in range(most):
        if opcodes.stream.peek(1)[:1] != b"\x80":
            break
        for _, value, _ in pickletools.genops(cast(IO[bytes], opcodes)):
            if isinstance(value, bytes):
                value = value.decode("latin-1")
            if isinstance(value, str):
                texts.append(value)
            if len(texts) > 10_000:
                yield "pickled", "\n".join(texts)
                texts = []
    yield "pickled", "\n".join(texts)
    budget.leave(TENSORS, size - opcodes.num_read)


def _read_png(stream: IO[bytes], size: int, budget: Budget) -> Iterator[tuple[str, str | bytes]]:
    """Text chunks, packed or not, and EXIF; wherever they stand."""
    budget.take(stream, 8)
    while len(header := budget.take(stream, 8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"eXIf"):
            if length > SCAN_MAX_VALUE_BYTES:
                raise ValueError(_LARGE_VALUE)
            yield kind.decode(), _png_text(kind, budget.take(stream, length), budget)
            budget.take(stream, 4)
        else:
            budget.skip(stream, length + 4, PIXELS)


def _png_text(kind: bytes, content: bytes, budget: Budget) -> str:
    keyword, _, rest = content.partition(b"\x00")
    packed = rest[1:] if kind == b"zTXt" else None
    if kind == b"iTXt":
        is_packed = rest[:1] == b"\x01"
        language, _, rest = rest[2:].partition(b"\x00")
        translated, _, rest = rest.partition(b"\x00")
        keyword += b" " + language + b" " + translated
        packed = rest if is_packed else None
    if packed is not None:
        unpacker = zlib.decompressobj()
        rest = unpacker.decompress(packed, min(SCAN_MAX_VALUE_BYTES, max(1, budget.bytes_left)))
        budget.bytes_left -= len(rest)
        if unpacker.unconsumed_tail:
            budget.leave(_LARGE_VALUE, len(unpacker.unconsumed_tail))
    return _both(keyword + b": " + rest)


def _read_jpeg(stream: IO[bytes], size: int, budget: Budget) -> Iterator[tuple[str, str | bytes]]:
    """Comments and the segments of programs (EXIF, XMP), which stand before the pixels."""
    num_read = len(budget.take(stream, 2))
    while len(header := budget.take(stream, 4)) == 4 and header[0] == 0xFF and header[1] != 0xDA:
        content = budget.take(stream, max(0, struct.unpack(">H", header[2:])[0] - 2))
        num_read += 4 + len(content)
        if header[1] == 0xFE or 0xE0 <= header[1] <= 0xEF:
            yield "metadata", _both(content)
    budget.leave(PIXELS, size - num_read)


def _read_webp(stream: IO[bytes], size: int, budget: Budget) -> Iterator[tuple[str, str | bytes]]:
    budget.take(stream, 12)
    while len(header := budget.take(stream, 8)) == 8:
        kind, length = struct.unpack("<4sI", header)
        length += length % 2
        if kind in (b"EXIF", b"XMP ") and length <= SCAN_MAX_VALUE_BYTES:
            yield "metadata", _both(budget.take(stream, length))
        else:
            budget.skip(stream, length, PIXELS)


def _read_parquet(stream: IO[bytes], size: int, budget: Budget) -> Iterator[tuple[str, str | bytes]]:
    """The notes of its schema, and its columns of texts and bytes."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        budget.leave("parquet, which is read where pyarrow is installed", size)
        return
    try:
        table = pyarrow.parquet.ParquetFile(stream, thrift_string_size_limit=SCAN_MAX_VALUE_BYTES)
        notes = {**(table.metadata.metadata or {}), **(table.schema_arrow.metadata or {})}
        yield "metadata", "\n".join(f"{_both(key)}: {_both(value)}" for key, value in notes.items())
        yield "columns", "\n".join(table.schema_arrow.names)
        yield from _read_row_groups(table, budget)
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error


def _read_row_groups(table: Any, budget: Budget) -> Iterator[tuple[str, str | bytes]]:
    names = [one.name for one in table.schema_arrow if _holds_text(one.type)]
    for number in range(table.num_row_groups):
        group = table.metadata.row_group(number)
        chunks = [group.column(i) for i in range(group.num_columns)]
        chosen = [one for one in chunks if one.path_in_schema.split(".")[0] in names]
        unpacked = sum(one.total_uncompressed_size for one in chosen)
        if unpacked > budget.bytes_left or unpacked > SCAN_MAX_VALUE_BYTES * max(1, group.num_rows):
            budget.leave("more than is unpacked of one file", unpacked)
            continue
        for batch in table.iter_batches(_BATCH_ROWS, row_groups=[number], columns=names):
            budget.bytes_left -= batch.nbytes
            if budget.bytes_left <= 0:
                budget.leave("more than is unpacked of one file", unpacked)
                return
            yield from _values(batch.to_pylist())


def _holds_text(kind: Any) -> bool:
    if any(word in str(kind) for word in ("string", "binary", "utf8")):  # also inside structs and lists
        return True
    return "dictionary" in str(kind)


def _values(rows: list[Any]) -> Iterator[tuple[str, str | bytes]]:
    texts, waiting = [], list(reversed(rows))
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += list(reversed(value.values()))
        elif isinstance(value, list | tuple):
            waiting += list(reversed(value))
        elif isinstance(value, bytes):
            yield "value", value
        elif isinstance(value, str):
            texts.append(value)
    if texts:
        yield "values", "\n".join(texts)


def _both(content: bytes) -> str:
    """Bytes that may be text of one or of two bytes a character (EXIF has both)."""
    text = content.decode("utf-8", errors="replace")
    if b"\x00" not in content:
        return text
    wide = [content[offset:].decode("utf-16-le", errors="replace") for offset in (0, 1)]
    return "\n".join([text.replace("\x00", "\n"), *wide])


__all__ = ["Budget", "PIXELS", "Reader", "TENSORS", "needs_whole", "reader_of"]
