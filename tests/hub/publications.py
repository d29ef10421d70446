"""Publish once for all tests that take a publication apart, and write its manifest anew."""

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

from filelock import FileLock
from tests.hub.two_stages import shared_two_stages

from transformers_llava.hub.publication.manifest import read_manifest, write_manifest
from transformers_llava.hub.publication.stage import stage_publication


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


def restore(folder: Path, copy: Path) -> None:
    """A linked copy as it was: what was changed, added or removed is told by the file's number on the disk."""
    wanted, found = _numbers(folder), _numbers(copy)
    for name in sorted(found.keys() - wanted.keys(), reverse=True):  # what lies in a folder before the folder
        (copy / name).unlink() if found[name] is not None else (copy / name).rmdir()
    for name in sorted(wanted):
        if name in found and found[name] == wanted[name]:
            continue
        if wanted[name] is None:
            (copy / name).unlink(missing_ok=True)  # a link where a folder was
            (copy / name).mkdir()
            continue
        if name in found:
            shutil.rmtree(copy / name) if found[name] is None else (copy / name).unlink()
        os.link(folder / name, copy / name)


def _numbers(folder: Path) -> dict[str, int | None]:
    """Every path below, and the number of its file; `None` for a folder."""
    numbers: dict[str, int | None] = {}
    for place, folders, files in os.walk(folder):
        inside = os.path.relpath(place, folder)
        for name in (*folders, *files):
            found = os.lstat(os.path.join(place, name))
            numbers[os.path.normpath(f"{inside}/{name}")] = None if stat.S_ISDIR(found.st_mode) else found.st_ino
    return numbers


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


__all__ = ["linked_copy", "replace", "restore", "shared_publication", "whole_record", "write_manifest_anew"]
