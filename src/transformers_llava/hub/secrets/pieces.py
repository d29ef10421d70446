"""Read the texts of a file for the scan: of archives, tables, weights and images too, within bounds."""

import bz2
import codecs
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from transformers_llava.artifacts.limits import (
    SCAN_CHUNK_BYTES,
    SCAN_MAX_BYTES_PER_FILE,
    SCAN_MAX_DEPTH,
    SCAN_MAX_MEMBERS,
    SCAN_MAX_SKIPPED_BYTES,
    SCAN_MAX_VALUE_BYTES,
)
from transformers_llava.hub.secrets import binary_texts


@dataclass(frozen=True)
class Piece:
    """
    Some text of a file.

    Args:
        name (`str`): The file, and after `!` where in it.
        text (`str`): What stands there; the pieces of a long text follow each other without overlap.
        is_continued (`bool`): The piece goes on from the one before.
        is_binary (`bool`): Bytes of an unknown kind, among which words may stand.
    """

    name: str
    text: str
    is_continued: bool = False
    is_binary: bool = False


@dataclass
class Reading:
    """
    What is still to be read of one file, and what was not.

    Args:
        name (`str`): The file.
        bytes_left (`int`): Of the bound on what is unpacked.
        skipped_left (`int`): Of the bound on what is unpacked and not looked at.
        members_left (`int`): Of the bound on files inside it.
        unread (`Counter`): Reason -> bytes that were not looked at.
    """

    name: str
    bytes_left: int = SCAN_MAX_BYTES_PER_FILE
    skipped_left: int = SCAN_MAX_SKIPPED_BYTES
    members_left: int = SCAN_MAX_MEMBERS
    unread: Counter[str] = field(default_factory=Counter)

    def leave(self, reason: str, num_bytes: int) -> None:
        """Notes that something is not looked at."""
        self.unread[reason] += max(0, num_bytes)

    def take(self, stream: IO[bytes], size: int) -> bytes:
        """At most `size` bytes, as far as the bound allows."""
        content = stream.read(min(size, self.bytes_left))
        self.bytes_left -= len(content)
        return content

    def skip(self, stream: IO[bytes], size: int, reason: str) -> None:
        """Goes on behind `size` bytes, which are not looked at."""
        num_read = 0
        while num_read < size and (content := stream.read(min(size - num_read, 2**20, self.skipped_left))):
            num_read += len(content)
            self.skipped_left -= len(content)
        self.leave(reason, num_read)


_TOO_LARGE = "more than is unpacked of one file"
_DAMAGED = "damaged, or of a kind that is not read"
# What readers of archives raise for damaged, encrypted and unknown content.
_BROKEN = (
    *(OSError, EOFError, ValueError, RuntimeError, LookupError, ArithmeticError, struct.error, zlib.error),
    *(lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError),
)


def read_pieces(path: Path, reading: Reading) -> Iterator[Piece]:
    """Everything in a file that can be read as text; what was not is in `reading.unread`."""
    with path.open("rb") as stream:
        yield from _read(stream, reading.name, path.stat().st_size, reading, 0)


def _read(stream: IO[bytes], name: str, size: int, reading: Reading, depth: int) -> Iterator[Piece]:
    """By the first bytes, not by the suffix: a name proves nothing."""
    if size > 0 and reading.bytes_left <= 0:
        reading.leave(_TOO_LARGE, size)
        return
    start = _start_of(stream)
    opener = _opener(start)
    if opener is None:
        yield from _read_leaf(stream, start, name, size, reading, depth)
    elif depth > SCAN_MAX_DEPTH:
        reading.leave(f"archives in more than {SCAN_MAX_DEPTH} others", size)
    else:
        try:
            yield from opener(stream, name, size, reading, depth)
        except _BROKEN:
            reading.leave(_DAMAGED, size)
            if not isinstance(stream, _Rest):
                stream.seek(0)
                yield from _read_leaf(stream, b"\x00", name, size, reading, depth)


_Opener = Callable[[IO[bytes], str, int, Reading, int], Iterator[Piece]]


def _opener(start: bytes) -> _Opener | None:
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _read_zip
    if start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")):
        return _read_compressed
    return _read_tar if start[257:262] == b"ustar" else None


def _read_zip(stream: IO[bytes], name: str, size: int, reading: Reading, depth: int) -> Iterator[Piece]:
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        yield Piece(f"{name}!comment", archive.comment.decode("latin-1"))
        yield Piece(f"{name}!names", "\n".join(member.filename for member in members[: reading.members_left]))
        for member in members:
            if member.is_dir() or not _next_member(reading, member.file_size):
                continue
            try:
                with archive.open(member) as content:
                    yield from _read_member(content, f"{name}!{member.filename}", member.file_size, reading, depth)
            except _BROKEN as error:
                reading.leave("encrypted" if "encrypted" in str(error) else _DAMAGED, member.file_size)


def _read_tar(stream: IO[bytes], name: str, size: int, reading: Reading, depth: int) -> Iterator[Piece]:
    names = []
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if not _next_member(reading, member.size):
                continue
            # Whose file it was stands in the header.
            names.append(f"{member.name} {member.linkname} {member.uname}")
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None:
                yield from _read_member(content, f"{name}!{member.name}", member.size, reading, depth)
    yield Piece(f"{name}!names", "\n".join(names))


def _read_compressed(stream: IO[bytes], name: str, size: int, reading: Reading, depth: int) -> Iterator[Piece]:
    with _unpacked(stream) as content:
        # How much it unpacks to is not known before: what is left of it is counted as it lies there.
        yield from _read_member(content, name, size, reading, depth)


def _unpacked(stream: IO[bytes]) -> Any:
    start = _start_of(stream)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=stream)
    return bz2.BZ2File(stream) if start.startswith(b"BZh") else lzma.LZMAFile(stream)


def _start_of(stream: IO[bytes]) -> bytes:
    """The first bytes of a stream that is read from its beginning afterwards."""
    if isinstance(stream, _Rest):
        return stream.peek()
    start = stream.read(512)
    stream.seek(0)
    return start


def _next_member(reading: Reading, size: int) -> bool:
    if reading.members_left <= 0:
        reading.leave(f"behind the first {SCAN_MAX_MEMBERS:,} files of an archive", size)
        return False
    reading.members_left -= 1
    return True


def _read_member(content: IO[bytes], name: str, size: int, reading: Reading, depth: int) -> Iterator[Piece]:
    """A file in an archive, which may be one itself; what can be read from its beginning is not held in memory."""
    start = content.read(512)
    if not binary_texts.needs_whole(start):
        yield from _read(cast(IO[bytes], _Rest(start, content)), name, size, reading, depth + 1)
        return
    whole = start + reading.take(content, SCAN_MAX_VALUE_BYTES)
    if content.read(1):
        reading.leave(f"archives and tables in archives, of more than {SCAN_MAX_VALUE_BYTES // 2**20} MiB", size)
        return
    yield from _read(io.BytesIO(whole), name, len(whole), reading, depth + 1)


class _Rest(io.RawIOBase):
    """A stream whose beginning was read to see what it is."""

    def __init__(self, start: bytes, stream: IO[bytes]) -> None:
        self._start, self._stream = start, stream

    def read(self, size: int = -1) -> bytes:
        head = self._start if size < 0 else self._start[:size]
        self._start = self._start[len(head) :]
        return head + self._stream.read(size - len(head) if size >= 0 else -1)

    def peek(self) -> bytes:
        return self._start


def _read_leaf(stream: IO[bytes], start: bytes, name: str, size: int, reading: Reading, depth: int) -> Iterator[Piece]:
    """Something that is no archive: a format whose texts we know, a text, or bytes with words in them."""
    reader = binary_texts.reader_of(start, name)
    if reader is not None:
        try:
            for where, content in reader(stream, size, reading):
                if isinstance(content, str):
                    yield Piece(f"{name}!{where}", content)
                else:
                    yield from _read_member(io.BytesIO(content), f"{name}!{where}", len(content), reading, depth)
            return
        except _BROKEN:
            if isinstance(stream, _Rest):
                reading.leave(_DAMAGED, size)
                return
            stream.seek(0)  # it is searched as it lies there
    encoding = _encoding(start) if reader is None else None
    decoder = codecs.getincrementaldecoder(encoding or "latin-1")(errors="replace")
    num_read, is_continued = 0, False
    while chunk := reading.take(stream, SCAN_CHUNK_BYTES):
        num_read += len(chunk)
        text = decoder.decode(chunk)
        yield Piece(name, text if encoding else text.replace("\x00", "\n"), is_continued, encoding is None)
        is_continued = True
    if stream.read(1):
        reading.leave(_TOO_LARGE, max(1, size - num_read))
    if encoding is None:
        reading.leave("bytes of an unknown kind, searched only as they lie there", num_read)


def _encoding(start: bytes) -> str | None:
    """Of a text; `None` where it is none."""
    for mark, name in (
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if start.startswith(mark):
            return name
    for offset, name in ((1, "utf-16-le"), (0, "utf-16-be")):  # without a mark: every other byte is zero
        zeros, others = start[offset::2], start[1 - offset :: 2]
        if len(start) >= 8 and zeros.count(0) > 0.9 * len(zeros) and others.count(0) == 0:
            return name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)  # a character at the end may be divided
    except UnicodeDecodeError:
        return None
    return None if any(byte < 32 and byte not in b"\t\n\v\f\r\x1b" for byte in start) else "utf-8"


__all__ = ["Piece", "Reading", "read_pieces"]
