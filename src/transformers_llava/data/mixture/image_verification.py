"""Look at each image of a source once, before training and not in the middle of it."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow
import pyarrow.parquet
from tqdm.auto import tqdm

from transformers_llava.data.cache import keep_file
from transformers_llava.data.images.archives import archive_of
from transformers_llava.data.images.download import is_remote, remote_file
from transformers_llava.data.images.opening import check_image
from transformers_llava.data.records.record_store import ParsedSource
from transformers_llava.data.schema import RecordError


VerificationLevel = Literal["decode", "header", "none"]


@dataclass(frozen=True)
class ImageVerdict:
    """What a look at one image gave."""

    sha256: str | None = None  # of its bytes; level `decode` only, where all of them are read
    reason: str | None = None  # why it cannot be used, if so
    message: str | None = None

    def error(self) -> RecordError | None:
        return None if self.reason is None else RecordError(self.reason, self.message or "")


def check_level(level: str) -> None:
    if level not in ("decode", "header", "none"):
        raise ValueError(
            f"verify_images must be 'decode' (finds truncated images), 'header' or 'none', not {level!r}."
        )


def verify_images(
    parsed: ParsedSource,
    *,
    level: VerificationLevel = "decode",
    num_proc: int | None = None,
    recheck: bool = False,
) -> list[ImageVerdict]:
    """
    Look at each distinct image of a source once.

    A good verdict is kept beside the parsed source and taken again for as long as the file stays as it was: its size,
    both times (`rsync -a` and `cp -p` set the time of the content, but not that of the change) and its place on the
    disk.

    Args:
        parsed (`ParsedSource`):
            Whose images to look at.
        level (`str`, *optional*, defaults to `"decode"`):
            `decode` decodes every pixel and finds truncated files, `header` reads the size, `none` only looks whether
            the file is there.
        num_proc (`int`, *optional*):
            Threads (Pillow decodes outside the interpreter lock); one per core by default.
        recheck (`bool`, *optional*, defaults to `False`):
            Look at every image again, whatever was found before: for a check that is to prove something.

    Returns:
        `list[ImageVerdict]`: in the order of the images, whatever the number of workers.
    """
    check_level(level)
    file = parsed.folder / f"verdicts.{level}.parquet"
    states = [_state(path) for path in parsed.image_paths]
    known = {} if recheck else _read_verdicts(file)
    verdicts: list[ImageVerdict | None] = [known.get((n, states[n])) for n in range(len(states))]
    missing = [number for number, verdict in enumerate(verdicts) if verdict is None]

    def look(number: int) -> ImageVerdict:
        try:
            return ImageVerdict(sha256=check_image(parsed.reference(number), level))
        except RecordError as error:
            return ImageVerdict(reason=error.reason, message=error.message)

    for number, verdict in zip(missing, _each(look, missing, num_proc, parsed.report.name), strict=True):
        verdicts[number] = verdict
    complete = [verdict for verdict in verdicts if verdict is not None]
    if missing:
        _write_verdicts(file, states, complete)
    return complete


def _each(
    look: Callable[[int], ImageVerdict], numbers: list[int], num_proc: int | None, name: str
) -> Iterable[ImageVerdict]:
    num_workers = max(1, num_proc or os.cpu_count() or 1)
    bar = {"total": len(numbers), "desc": f"images of {name}", "unit": "image", "delay": 2.0, "mininterval": 0.5}
    if num_workers == 1 or len(numbers) < 2:
        yield from tqdm(map(look, numbers), **bar)
        return
    with ThreadPoolExecutor(num_workers, thread_name_prefix="verify-images") as pool:
        yield from tqdm(pool.map(look, numbers), **bar)


def _state(path: str | None) -> str:
    """What tells whether the file that holds an image was written; bytes in a record are covered by its digest."""
    if path is None:
        return "embedded"
    try:
        status = os.stat(remote_file(path) if is_remote(path) else archive_of(path))
    except OSError:
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _read_verdicts(file: Path) -> dict[tuple[int, str], ImageVerdict]:
    try:
        table = pyarrow.parquet.read_table(file)
    except (OSError, pyarrow.ArrowException):  # none yet, or an unreadable one: look again
        return {}
    columns = [table.column(name).to_pylist() for name in ("state", "sha256", "reason", "message")]
    # Only good verdicts are taken again: what was wrong with a file may be mended without touching it (permissions).
    return {(n, row[0]): ImageVerdict(*row[1:]) for n, row in enumerate(zip(*columns)) if row[2] is None}


def _write_verdicts(file: Path, states: Sequence[str], verdicts: Sequence[ImageVerdict]) -> None:
    columns = {
        "state": states,
        "sha256": [verdict.sha256 for verdict in verdicts],
        "reason": [verdict.reason for verdict in verdicts],
        "message": [verdict.message for verdict in verdicts],
    }
    schema = pyarrow.schema([(name, pyarrow.string()) for name in columns])
    table = pyarrow.table(columns, schema=schema)
    keep_file(file, lambda unfinished: pyarrow.parquet.write_table(table, unfinished))


__all__ = ["ImageVerdict", "VerificationLevel", "check_level", "verify_images"]
