"""Read members of zip and tar files by reference, without unpacking anything to disk."""

import os
import tarfile
import threading
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from transformers_llava.artifacts.limits import MAX_IMAGE_BYTES


ARCHIVE_SCHEMES = ("zip://", "tar://")
_SMALLEST_READ = 4096  # zipfile reads no less of a member at a time
_SEPARATOR = "::"  # as fsspec and datasets write it: zip://member::archive


class MemberError(ValueError):
    """One member of an archive cannot be read; `reason` is the word under which reports count it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def is_archive(path: Path | None) -> bool:
    """Whether an image root is a zip or tar file rather than a folder (judged by name: nothing is opened)."""
    return path is not None and path.name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))


def check_archive(archive: str | Path) -> None:
    """Raises `ValueError` for a compressed tar, which has no random access, and a path that references cannot hold."""
    if is_archive(Path(archive)) and _SEPARATOR in str(archive):
        # A reference ends at its last separator: `x::/home/a.zip` would open `/home/a.zip`, wherever `x::` lies.
        raise ValueError(
            f"image root {str(archive)!r} has {_SEPARATOR!r} in its path, which divides a member from its archive, so "
            "another file would be opened. Rename the folder or the archive."
        )
    if is_archive(Path(archive)) and not str(archive).lower().endswith((".zip", ".tar")):
        raise ValueError(
            f"image root {str(archive)!r} is a compressed tar: every image would mean decompressing it from the "
            "start. Decompress it to a plain .tar once, or use a .zip."
        )


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
    The bytes of one member, of at most `MAX_IMAGE_BYTES`: what it says of its size is looked at before it is unpacked.

    Raises:
        `OSError`: no such archive, or not a readable one.
        `KeyError`: no such member.
        `MemberError`: a member that is damaged, encrypted, too large, or packed by a method that Python lacks.
        `ValueError`: a compressed tar, see `check_archive`.
    """
    scheme, rest = reference[:6], reference[6:]
    member, _, archive = rest.rpartition(_SEPARATOR)
    check_archive(archive)
    try:
        # Keyed by process and thread: an open file shared over a fork or between threads shares its position too.
        reader = _open_archive(scheme, archive, _version(archive), os.getpid(), threading.get_ident())
    except OSError:
        raise
    except Exception as error:  # BadZipFile, TarError; of damaged directories also struct.error, ValueError, …
        raise OSError(f"{archive!r} is no readable archive ({type(error).__name__}: {error})") from error
    try:
        return reader(member)
    except (OSError, KeyError, MemberError):
        raise
    except Exception as error:  # zlib.error, BadZipFile (checksum), RuntimeError (password), NotImplementedError
        raise MemberError(
            "unreadable_image",
            f"the archive does not give it out ({type(error).__name__}: {error}). Pack the archive anew, without a "
            "password.",
        ) from error


def _version(archive: str) -> tuple[int, ...]:
    """What is another for a file that was exchanged or written anew: an open one would go on giving the old bytes."""
    status = os.stat(archive)
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@lru_cache(maxsize=64)
def _open_archive(
    scheme: str, archive: str, version: tuple[int, ...], process: int, thread: int
) -> Callable[[str], bytes]:
    if scheme == "zip://":
        return _reader_of_zip(zipfile.ZipFile(archive))
    offsets = _tar_offsets(archive, version)
    stream = open(archive, "rb")  # noqa: SIM115 - lives as long as the cache entry

    def read(member: str) -> bytes:
        start, size = offsets[member]
        _check_size(size)
        stream.seek(start)
        return stream.read(size)

    return read


def _reader_of_zip(archive: zipfile.ZipFile) -> Callable[[str], bytes]:
    def read(member: str) -> bytes:
        info = archive.getinfo(member)
        _check_size(info.file_size)
        # zipfile bounds what deflate gives, but unpacks bzip2 and LZMA a read at a time, whatever comes out: 4 kB of
        # bzip2 can be 90 MB. What is more than the directory says never comes through; the checksum then fails.
        is_bounded = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        with archive.open(info) as stream:
            if is_bounded:
                return stream.read()
            return b"".join(iter(lambda: stream.read(_SMALLEST_READ), b""))

    return read


def _check_size(size: int) -> None:
    if not 0 <= size <= MAX_IMAGE_BYTES:
        raise MemberError(
            "decompression_bomb",
            f"it would have {size:,} bytes, more than the {MAX_IMAGE_BYTES:,} that are read of one image. Pack it "
            "smaller.",
        )


@lru_cache(maxsize=8)
def _tar_offsets(archive: str, version: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    """Where each file of an uncompressed tar lies. One pass over its headers."""
    # Not a `TarFile` beside each open stream: it would pass over all headers again for every thread and process.
    with tarfile.open(archive, "r:") as tar:
        return {os.path.normpath(member.name): (member.offset_data, member.size) for member in tar if member.isfile()}


__all__ = [
    "ARCHIVE_SCHEMES",
    "MemberError",
    "archive_of",
    "archive_reference",
    "check_archive",
    "is_archive",
    "read_member",
]
