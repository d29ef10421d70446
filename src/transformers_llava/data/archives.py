"""References to members of zip and tar files to their bytes, without unpacking anything."""

import os
import tarfile
import threading
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path


ARCHIVE_SCHEMES = ("zip://", "tar://")
_SEPARATOR = "::"  # as fsspec and datasets write it: zip://member::archive


def is_archive(path: Path | None) -> bool:
    """Whether an image root is a zip or tar file rather than a folder (judged by name: nothing is opened)."""
    return path is not None and path.name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))


def archive_reference(archive: Path | None, member: str) -> str:
    """
    ```python
    >>> archive_reference(Path("images.zip"), "a/1.jpg")
    'zip://a/1.jpg::images.zip'
    ```
    """
    assert archive is not None
    scheme = "zip://" if archive.name.lower().endswith(".zip") else "tar://"
    return f"{scheme}{member}{_SEPARATOR}{archive.as_posix()}"


def archive_of(path: str) -> str:
    """The file on disk behind a reference: the archive of a member, or the path itself."""
    return path[6:].rpartition(_SEPARATOR)[2] if path.startswith(ARCHIVE_SCHEMES) else path


def read_member(reference: str) -> bytes:
    """
    The bytes of one member.

    Raises:
        `OSError`: no such archive, or not a readable one.
        `KeyError`: no such member.
        `ValueError`: a compressed tar, which has no random access.
    """
    scheme, rest = reference[:6], reference[6:]
    member, _, archive = rest.rpartition(_SEPARATOR)
    try:
        # Keyed by process and thread: an open file shared over a fork or between threads shares its position too.
        reader = _open_archive(scheme, archive, os.getpid(), threading.get_ident())
        return reader(member)
    except (zipfile.BadZipFile, tarfile.TarError) as error:
        raise OSError(f"{archive}: {error}") from error


@lru_cache(maxsize=64)
def _open_archive(scheme: str, archive: str, process: int, thread: int) -> Callable[[str], bytes]:
    if scheme == "zip://":
        return zipfile.ZipFile(archive).read
    offsets = _tar_offsets(archive, os.stat(archive).st_mtime_ns)
    stream = open(archive, "rb")  # noqa: SIM115 - lives as long as the cache entry

    def read(member: str) -> bytes:
        start, size = offsets[member]
        stream.seek(start)
        return stream.read(size)

    return read


@lru_cache(maxsize=8)
def _tar_offsets(archive: str, mtime_ns: int) -> dict[str, tuple[int, int]]:
    """Where each file of an uncompressed tar lies. One pass over its headers."""
    if not archive.lower().endswith(".tar"):
        raise ValueError(
            f"image root {archive!r} is a compressed tar: every picture would mean decompressing it from the start. "
            "Decompress it to a plain .tar once, or use a .zip."
        )
    with tarfile.open(archive, "r:") as tar:
        return {os.path.normpath(member.name): (member.offset_data, member.size) for member in tar if member.isfile()}


__all__ = ["ARCHIVE_SCHEMES", "archive_of", "archive_reference", "is_archive", "read_member"]
