"""Keep xorbs and shards of Xet uploads as they came, and plan how a client rebuilds a file from them.

A file is a list of terms, each a range of chunks of a xorb; a xorb is up to 64 MiB of compressed chunks; a shard says
the terms of files. Formats: `docs/xet/` of huggingface/hub-docs (api, shard, xorb, download-protocol). Nothing is
unpacked here: that is the work of the client, and `rebuild` asks the client's own library.
"""

import json
import re
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.fake_hub.errors import HubError
from tests.fake_hub.storage import write_whole


_RECORD = 48  # bytes; every record of a shard has this size, its first 32 are a hash
_END = b"\xff" * 32
_HAS_VERIFICATION, _HAS_METADATA = 1 << 31, 1 << 30
_CHUNK_HEADER = 8  # bytes: version 1, packed size 3, scheme 1, size 3
_HASH = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Term:
    """Chunks `start` to `stop` (exclusive) of a xorb, which are `size` bytes of the file."""

    xorb: str
    start: int
    stop: int
    size: int


@dataclass(frozen=True)
class XetFile:
    """`xet_hash` names the file in Xet, `sha256` in git-LFS."""

    xet_hash: str
    sha256: str | None
    terms: tuple[Term, ...]

    @property
    def size(self) -> int:
        return sum(term.size for term in self.terms)


class XetStore:
    """`<root>/xet/xorbs/<hash>`, `files/<xet hash>`, and `by_sha256/<sha256>` with the file's Xet hash."""

    def __init__(self, root: Path):
        self.root = root / "xet"

    def xorb(self, xorb_hash: str) -> Path:
        return self._path("xorbs", xorb_hash)

    def put_xorb(self, xorb_hash: str, chunks: Iterable[bytes]) -> bool:
        """Returns whether it is new."""
        is_new = not self.xorb(xorb_hash).is_file()
        write_whole(self.xorb(xorb_hash), chunks)
        return is_new

    def put_shard(self, data: bytes) -> None:
        """From now on its files can be fetched. Raises `HubError` 400: it names a xorb that is not here."""
        for file in read_shard(data):
            for term in file.terms:
                if not self.xorb(term.xorb).is_file():
                    raise HubError(400, f"the shard names the xorb {term.xorb}, which was not uploaded")
            write_whole(self._path("files", file.xet_hash), [json.dumps(asdict(file)).encode()])
            if file.sha256:
                write_whole(self._path("by_sha256", file.sha256), [file.xet_hash.encode()])

    def file(self, xet_hash: str) -> XetFile:
        path = self._path("files", xet_hash)
        if not path.is_file():
            raise HubError(404, f"there is no file {xet_hash}")
        facts = json.loads(path.read_text(encoding="utf-8"))
        return XetFile(facts["xet_hash"], facts["sha256"], tuple(Term(**term) for term in facts["terms"]))

    def find(self, sha256: str) -> XetFile | None:
        path = self._path("by_sha256", sha256)
        return self.file(path.read_text(encoding="ascii")) if path.is_file() else None

    def terms(self, file: XetFile, start: int, stop: int) -> tuple[int, list[Term]]:
        """Terms that hold the bytes `start` to `stop` of a file, and how many bytes of the first to skip."""
        position, skip, wanted = 0, 0, []
        for term in file.terms:
            if position < stop and position + term.size > start:
                skip = skip if wanted else start - position
                wanted.append(term)
            position += term.size
        return skip, wanted

    def byte_range(self, xorb: str, start: int, stop: int) -> tuple[int, int]:
        """First and last byte, both inclusive, of the chunks `start` to `stop` in the stored xorb."""
        with self.xorb(xorb).open("rb") as stream:
            position, first = 0, 0
            for index in range(stop):
                first = position if index == start else first
                stream.seek(position)
                header = stream.read(_CHUNK_HEADER)
                position += _CHUNK_HEADER + int.from_bytes(header[1:4], "little")
        return first, position - 1

    def _path(self, kind: str, name: str) -> Path:
        if not _HASH.fullmatch(name):
            raise HubError(400, f"{name!r} is not a hash")
        return self.root / kind / name


def read_shard(data: bytes) -> Iterator[XetFile]:
    """Files of a shard: a header, then per file one record, its terms, their verification, and the sha256."""
    position = _RECORD
    while data[position : position + 32] != _END:
        xet_hash, sha256 = _hash(data, position), None
        flags, num_terms = struct.unpack_from("<II", data, position + 32)
        position += _RECORD
        terms = tuple(_read_term(data, position + _RECORD * index) for index in range(num_terms))
        position += _RECORD * num_terms * (2 if flags & _HAS_VERIFICATION else 1)
        if flags & _HAS_METADATA:
            sha256 = _hash(data, position)
            position += _RECORD
        yield XetFile(xet_hash, sha256, terms)


def chunk_ranges(terms: Iterable[Term]) -> list[tuple[str, int, int]]:
    """
    Xorb, start and stop of what must be fetched, each chunk once: content that repeats has overlapping terms.

    The chunks 0-3, 2-5 and 7-8 of one xorb are fetched as 0-5 and 7-8.
    """
    merged: list[tuple[str, int, int]] = []
    for xorb, start, stop in sorted((term.xorb, term.start, term.stop) for term in terms):
        if merged and merged[-1][0] == xorb and start <= merged[-1][2]:
            merged[-1] = (xorb, merged[-1][1], max(stop, merged[-1][2]))
        else:
            merged.append((xorb, start, stop))
    return merged


def rebuild(file: XetFile, endpoint: str, token: str, target: Path) -> None:
    """Downloads a file with the client's own library."""
    import hf_xet

    options: dict[str, Any] = {"token_refresh_url": None, "token_refresh_headers": {}, "custom_headers": {}}
    expiry = int(time.time()) + 3600
    group = hf_xet.XetSession().new_file_download_group(
        endpoint=endpoint, token=token, token_expiry_unix_secs=expiry, progress_callback=None, **options
    )
    with group:
        group.start_download_file(hf_xet.XetFileInfo(file.xet_hash, file.size), str(target))


def _read_term(data: bytes, position: int) -> Term:
    size, start, stop = struct.unpack_from("<III", data, position + 36)
    return Term(_hash(data, position), start, stop, size)


def _hash(data: bytes, position: int) -> str:
    """Four little-endian words, written one after the other."""
    return "".join(f"{word:016x}" for word in struct.unpack_from("<4Q", data, position))
