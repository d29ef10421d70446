"""Xet uploads to plain objects: reads the disk-backed store that `hf_xet` itself writes behind `local://` addresses.

`local://` is what the authors of hf_xet use for their own simulations. It is not documented, so the LFS transport is
tested beside it. The layout of a shard is documented in `docs/xet/shard.md` of huggingface/hub-docs.
"""

import os
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.hub.storage import ObjectStore


_RECORD = 48  # bytes; every record of a shard has this size, its first 32 are a hash
_END = b"\xff" * 32
_HAS_VERIFICATION, _HAS_METADATA = 1 << 31, 1 << 30
_SECONDS_OF_TOKEN = 3600


@dataclass(frozen=True)
class XetFile:
    sha256: str
    xet_hash: str
    size: int  # bytes


class XetStore:
    """The content-addressed store at `<root>/cas` that the client writes to and reads from by itself."""

    def __init__(self, root: Path):
        self.folder = root / "cas"
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> str:
        return f"local://{self.folder}"

    def token(self) -> dict[str, str | int]:
        return {"casUrl": self.address, "exp": int(time.time()) + _SECONDS_OF_TOKEN, "accessToken": "loopback"}

    def find(self, sha256: str) -> XetFile | None:
        files = (file for shard in self.folder.rglob("*.mdb") for file in read_shard(shard.read_bytes()))
        return next((file for file in files if file.sha256 == sha256), None)

    def materialize(self, sha256: str, store: ObjectStore) -> bool:
        """Rebuilds an uploaded content as an object, so that it can be served by LFS too; False if there is none."""
        file = self.find(sha256)
        if file is None:
            return False
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as folder:
            rebuilt = Path(folder) / "content"
            self._download(file, rebuilt, Path(folder) / "cas")
            with rebuilt.open("rb") as stream:
                store.put(sha256, iter(lambda: stream.read(1 << 20), b""))
        store.note_xet_hash(sha256, file.xet_hash)
        return True

    def _download(self, file: XetFile, target: Path, copy: Path) -> None:
        """A client that runs holds a lock on the index (`.redb`): read links to the data with an index of our own."""
        import hf_xet

        def link_or_copy(source: str, destination: str) -> None:
            (shutil.copyfile if source.endswith(".redb") else os.link)(source, destination)

        ignored = shutil.ignore_patterns("shard-session", "shard-cache")
        shutil.copytree(self.folder, copy, ignore=ignored, copy_function=link_or_copy)
        group = hf_xet.XetSession().new_file_download_group(
            endpoint=f"local://{copy}",
            token="loopback",
            token_expiry_unix_secs=int(time.time()) + _SECONDS_OF_TOKEN,
            token_refresh_url=None,
            token_refresh_headers={},
            custom_headers={},
            progress_callback=None,
        )
        with group:
            group.start_download_file(hf_xet.XetFileInfo(file.xet_hash, file.size), str(target))


def read_shard(data: bytes) -> Iterator[XetFile]:
    """Files of a shard: a header, then per file one record, its segments, their verification, and the sha256."""
    position = _RECORD
    while data[position : position + 32] != _END:
        xet_hash = _hash(data, position)
        flags, num_segments = struct.unpack_from("<II", data, position + 32)
        position += _RECORD
        size = sum(struct.unpack_from("<I", data, position + _RECORD * i + 36)[0] for i in range(num_segments))
        position += _RECORD * num_segments * (2 if flags & _HAS_VERIFICATION else 1)
        if flags & _HAS_METADATA:
            yield XetFile(_hash(data, position), xet_hash, size)
            position += _RECORD


def _hash(data: bytes, position: int) -> str:
    """Four little-endian words, written one after the other."""
    return "".join(f"{word:016x}" for word in struct.unpack_from("<4Q", data, position))
