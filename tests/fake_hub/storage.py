"""Keep contents of large files under their sha256: what git-LFS pointers in the repositories point to."""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fake_hub.errors import HubError


_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (\d+)\n")


@dataclass(frozen=True)
class Pointer:
    """What git holds in place of a large file."""

    sha256: str
    size: int  # bytes of the content

    def __bytes__(self) -> bytes:
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n"
        return text.encode()


def parse_pointer(content: bytes) -> Pointer | None:
    match = _POINTER.fullmatch(content)
    return Pointer(match[1].decode(), int(match[2])) if match else None


def write_whole(target: Path, chunks: Iterable[bytes]) -> None:
    """A file that is there with all its bytes, or not at all, whatever ends the writing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
        try:
            for chunk in chunks:
                file.write(chunk)
        except BaseException:
            os.unlink(file.name)
            raise
    os.replace(file.name, target)


class ObjectStore:
    """`<root>/lfs/<ab>/<sha256>`; a content that came by Xet has its Xet hash beside it in `<sha256>.xet`."""

    def __init__(self, root: Path):
        self.root = root / "lfs"

    def path(self, sha256: str) -> Path:
        return self.root / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    def pointer(self, sha256: str) -> Pointer:
        return Pointer(sha256, self.path(sha256).stat().st_size)

    def put(self, sha256: str, chunks: Iterable[bytes]) -> None:
        """Stores a whole content or nothing. Raises `HubError` 400: the bytes have another hash."""
        write_whole(self.path(sha256), _checked(chunks, sha256))

    def xet_hash(self, sha256: str) -> str | None:
        note = self._note(sha256)
        return note.read_text(encoding="ascii") if note.is_file() else None

    def note_xet_hash(self, sha256: str, xet_hash: str) -> None:
        self._note(sha256).write_text(xet_hash, encoding="ascii")

    def _note(self, sha256: str) -> Path:
        return self.path(sha256).with_suffix(".xet")


def _checked(chunks: Iterable[bytes], sha256: str) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != sha256:
        raise HubError(400, f"the content has sha256 {digest.hexdigest()}, not {sha256}")
