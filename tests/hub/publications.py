"""One self-contained publication for all tests that take one apart, and its manifest written anew."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock

from transformers_llava.hub.manifest import read_manifest, write_manifest
from transformers_llava.hub.staging import stage_publication

from .two_stages import shared_two_stages


def whole_record() -> dict[str, Any]:
    """A run record of one stage with every field that a publication needs: that of the demo, as it is kept here."""
    record = json.loads((Path(__file__).parents[1] / "fixtures" / "demo_run" / "run.json").read_text())
    del record["previous"]
    return record


def shared_publication(base: Path) -> Path:
    """Staged once for all tests, which leave it as it is; `base` is `tmp_path_factory.getbasetemp()`."""
    checkpoint = shared_two_stages(base)
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "shared_publication"
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "manifest.json").is_file():
            stage_publication(checkpoint, "me/tiny", folder, self_contained=True, allow_incomplete=True)
    return folder


def linked_copy(folder: Path, target: Path) -> Path:
    """A copy whose files are the same on the disk: write a file anew, never into it."""
    shutil.copytree(folder, target, copy_function=os.link)
    return target


def replace(path: Path, content: bytes | str) -> None:
    """Another content for a file of a linked copy."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)


def write_manifest_anew(folder: Path) -> str:
    """The manifest over whatever lies there now; returns the tag of the one before."""
    before = read_manifest(folder)
    (folder / "manifest.json").unlink()
    write_manifest(folder, layout=before.layout, repo_id=before.repo_id, incomplete=before.incomplete)
    return before.tag


__all__ = ["linked_copy", "replace", "shared_publication", "whole_record", "write_manifest_anew"]
