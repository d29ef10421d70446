"""Write a file such that a reader, also one after a kill, sees the old content or the new one, never half of one."""

import os
from pathlib import Path


def write_atomically(path: str | os.PathLike, content: str | bytes) -> Path:
    """
    Write a whole file beside its later path, then rename it.

    Args:
        path (`str` or `Path`): In a folder that is there; one process writes it at a time.
        content (`str` or `bytes`): Text is written as UTF-8, with the line ends that it has.

    Returns:
        `Path`: The file.
    """
    path = Path(path)
    unfinished = path.with_name(f"{path.name}.part")
    try:
        unfinished.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        unfinished.replace(path)
    except BaseException:  # also an interrupt
        unfinished.unlink(missing_ok=True)
        raise
    return path


__all__ = ["write_atomically"]
