"""Read and write where a run's data and base models lie on this machine; the file never leaves the machine."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers_llava.artifacts.atomic_write import write_atomically
from transformers_llava.artifacts.digests.file_digests import commit_of_snapshot
from transformers_llava.artifacts.untrusted import DocumentError, read_json


# In the checkpoint's folder, for this machine alone: the Hub's client never uploads this sub-folder, nor does git.
LOCAL_PATHS_NAME = ".cache/huggingface/places.json"
_DOWNLOADS = ".cache/huggingface/download"  # what the client leaves in a folder that it has fetched


@dataclass(frozen=True)
class LocalPaths:
    """
    Where the parts of one stage lie.

    Args:
        sources (`Mapping`): Source -> `path` and `image_root`, as far as they are not on the Hub.
        base_models (`Mapping`): Role -> folder.
    """

    sources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    base_models: Mapping[str, str] = field(default_factory=dict)


def write_local_paths(checkpoint: Path, stages: Sequence[LocalPaths]) -> Path:
    """
    Note where the parts of a run lie, the first stage first, so that `llava publish --self_contained` finds them.

    Returns:
        `Path`: The file; neither a publication nor `hf upload` nor git takes it along.
    """
    path = checkpoint / LOCAL_PATHS_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / ".gitignore").write_text("*\n", encoding="utf-8")
    *previous, last = (asdict(stage) for stage in stages)
    return write_atomically(path, json.dumps({**last, "previous": previous}, indent=2) + "\n")


def read_local_paths(checkpoint: Path) -> list[LocalPaths]:
    """
    Where each stage's data and base models lie on this machine, the first stage first; empty if nobody noted it.

    Raises:
        `DocumentError`: the note is there and is not one of ours.
    """
    path = checkpoint / LOCAL_PATHS_NAME
    if not path.is_file():
        return []
    last = read_json(path)
    return [_checked(one, path) for one in (*(last.pop("previous", None) or []), last)]


def read_own_local_paths(checkpoint: Path) -> list[LocalPaths]:
    """
    The same of a checkpoint that was made here; empty for one that came from somewhere else.

    A note in such a one names files of this machine that its author would like to have published.
    """
    is_downloaded = (checkpoint / _DOWNLOADS).exists() or commit_of_snapshot(checkpoint.resolve()) is not None
    return [] if is_downloaded else read_local_paths(checkpoint)


def _checked(one: Any, path: Path) -> LocalPaths:
    parts = [one.get(name) for name in ("sources", "base_models")] if isinstance(one, dict) else [None]
    sources = [*parts[0].values()] if isinstance(parts[0], dict) else [None]
    if not all(isinstance(part, dict) for part in (*parts, *sources)):
        raise DocumentError(
            f"{str(path)!r} is no note of where the parts of a run lie. Publish without --self_contained, or "
            "train again."
        )
    return LocalPaths(*parts)


__all__ = ["LOCAL_PATHS_NAME", "LocalPaths", "read_local_paths", "read_own_local_paths", "write_local_paths"]
