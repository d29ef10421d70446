"""Keep results in a cache that processes, users and machines share, and work without it where it cannot be written."""

import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

from datasets import config as datasets_config


try:
    import fcntl
except ImportError:  # Windows: every process works for itself
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

_LEFTOVER = re.compile(r"\..+\.unfinished|[0-9a-f]{32}\.[a-z0-9_]{8}|lengths\.[0-9a-f]{32}\.\d+")  # today's, and older
_LEFTOVER_SECONDS = 24 * 3600  # nothing takes so long; what is older is of a run that was killed
_warned: set[tuple[str, str]] = set()


def default_cache_dir() -> Path:
    """`TRANSFORMERS_LLAVA_CACHE`, else a folder beside the caches of `datasets`."""
    folder = os.environ.get("TRANSFORMERS_LLAVA_CACHE")
    return Path(folder) if folder else Path(datasets_config.HF_DATASETS_CACHE) / "transformers_llava"


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """
    Write a file or a folder that is whole as soon as it exists, whoever writes it at the same time.

    A file replaces one of its name; of a folder that another process has written meanwhile, that one stays.

    Args:
        path (`Path`): Its name. Its modes are those of any new file, so that a group can share the cache.
        write (`Callable`): Writes the file, or makes and fills the folder, whose path it is given.

    Raises:
        `OSError`: it cannot be written; nothing is left of it.
    """
    unfinished = _unfinished_path(path)
    try:
        for is_last in (False, True):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                write(unfinished)
                _give_name(unfinished, path)
                return
            except FileNotFoundError:  # another process has removed the parent folder, which it was done with
                if is_last:
                    raise
                _remove(unfinished)
    finally:
        _remove(unfinished)


def _remove(path: Path) -> None:
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _give_name(unfinished: Path, path: Path) -> None:
    if not unfinished.is_dir():
        unfinished.replace(path)
        return
    try:
        unfinished.rename(path)
    except OSError:  # a folder is not replaced
        if not path.is_dir():
            raise


def keep_file(file: Path, write: Callable[[Path], object]) -> bool:
    """
    `write_whole` of a file of the cache.

    Returns:
        `bool`: whether it is kept. Where it cannot be, one warning says so: a cache is only a convenience.
    """
    try:
        write_whole(file, write)
        return True
    except OSError as error:
        warn_unkept(file.parent, error)
        return False


def _unfinished_path(path: Path) -> Path:
    """
    A name beside `path` that no other process takes, on whichever machine: process numbers occur twice there.

    Contract: `remove_leftovers` knows such names.
    """
    return path.with_name(f".{path.name}.{uuid4().hex}.unfinished")


def warn_unkept(folder: Path, error: BaseException) -> None:
    """Says once per folder and kind of error that nothing is kept there."""
    key = (str(folder.parent), type(error).__name__)
    if key not in _warned:
        _warned.add(key)
        logger.warning(
            "the cache %s cannot be used (%s: %s), so the next run does this work again. Set TRANSFORMERS_LLAVA_CACHE "
            "to a folder that can be written, with space left.",
            folder,
            type(error).__name__,
            error,
        )


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs left unfinished, a day later: none of it can be told from what is being written now."""
    with suppress(OSError):
        for path in folder.iterdir():
            if _LEFTOVER.fullmatch(path.name):
                with suppress(OSError):
                    if time.time() - path.stat().st_mtime > _LEFTOVER_SECONDS:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()


@lru_cache(maxsize=1)
def _private_folder(process: int) -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="transformers_llava_")


def private_folder() -> Path:
    """A folder of this process alone, until it ends: for what the cache cannot take."""
    return Path(tempfile.mkdtemp(dir=_private_folder(os.getpid()).name))


@contextmanager
def only_one(file: Path, *, wait: bool = True) -> Iterator[bool]:
    """
    Hold the lock of a name: processes that share the cache do a piece of work one after another, or only one of them.

    The lock is the kernel's and ends with its process, so a killed one leaves nothing to wait for. No process talks
    to another, and nothing depends on the lock but who does the work: where the file system knows none, all do it.

    Args:
        file (`Path`): The lock's file; it stays, empty.
        wait (`bool`, *optional*, defaults to `True`): Wait for whoever holds it.

    Yields:
        `bool`: `False` if another process holds it and `wait` is off.
    """
    descriptor = _open_lock(file)
    try:
        yield descriptor is None or _lock(descriptor, file, wait)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open_lock(file: Path) -> int | None:
    if fcntl is None:
        return None
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):  # another user's can be locked too, if only it can be read
        with suppress(OSError):
            return os.open(file, flags, 0o666)
    return None


def _lock(descriptor: int, file: Path, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        if not wait:
            return False
    except OSError:  # this file system has no locks
        return True
    logger.info("another process does the same work; waiting for it (%s)", file)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        pass  # as above
    return True


__all__ = [
    "default_cache_dir",
    "keep_file",
    "only_one",
    "private_folder",
    "remove_leftovers",
    "warn_unkept",
    "write_whole",
]
