"""List a publication in `manifest.json`: what every file and tensor of it is, under one digest."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from transformers_llava.artifacts.atomic_write import write_atomically
from transformers_llava.artifacts.digests.file_digests import file_digest
from transformers_llava.artifacts.digests.tensor_digests import (
    combined_tensor_digest,
    tensor_digests,
    tensor_digests_of_files,
)
from transformers_llava.artifacts.limits import MIN_EXPECTED_DIGITS
from transformers_llava.artifacts.untrusted import DocumentError, read_json


MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION = 1
TAG_PREFIX = "v-"

# People edit cards on the Hub; git and the client leave files of their own; a signature signs the manifest.
NOT_LISTED = {MANIFEST_NAME, "README.md", ".gitattributes", "model.sig"}
# Folders of git's and of the Hub's client, at the top alone: `.cache` anywhere else is a folder like any other.
NOT_LISTED_FOLDERS = (".git", ".cache/huggingface")

_LAYOUTS = ("open_llava", "builtin")
_SHA256 = re.compile("[0-9a-f]{64}")


class ManifestError(ValueError):
    """The manifest is missing, not readable, or contradicts itself."""


@dataclass
class Manifest:
    """
    What a publication consists of.

    Args:
        layout (`str`): open_llava or builtin.
        repo_id (`str`): What the card calls it.
        files (`dict`): Path -> {size, sha256} of every file but the card and this one.
        tensors (`dict`): Name -> SHA-256 of type, shape and bytes; another sharding leaves it as it is.
        incomplete (`list[str]`): What the card does not say, though it should: with `--allow_incomplete`.
    """

    layout: str
    repo_id: str
    files: dict[str, dict[str, Any]]
    tensors: dict[str, str]
    incomplete: list[str] = field(default_factory=list)

    @property
    def tensors_digest(self) -> str:
        """One digest for all tensors."""
        return combined_tensor_digest(self.tensors)

    @property
    def digest(self) -> str:
        """SHA-256 of everything that the manifest says: 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self._content(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def tag(self) -> str:
        """The tag of the commit that holds it: `v-` and 32 digits, so that no other manifest can be found for it."""
        return TAG_PREFIX + self.digest[:MIN_EXPECTED_DIGITS]

    def _content(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "layout": self.layout,
            "repo_id": self.repo_id,
            "incomplete": self.incomplete,
            "tensors_digest": self.tensors_digest,
            "files": self.files,
            "tensors": self.tensors,
        }

    def to_dict(self) -> dict[str, Any]:
        """With its own digest, as written."""
        return {"digest": self.digest, **self._content()}

    def to_text(self) -> str:
        """What `manifest.json` holds."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"


def write_manifest(folder: Path, *, layout: str, repo_id: str, incomplete: list[str] | None = None) -> Manifest:
    """Lists a folder that is otherwise complete, and writes `manifest.json` into it."""
    manifest = Manifest(layout, repo_id, listed_files(folder), tensor_digests(folder), sorted(incomplete or []))
    write_atomically(folder / MANIFEST_NAME, manifest.to_text())  # it comes last: a folder with a manifest is whole
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """
    The manifest of a publication, with its own digest proven.

    Raises:
        `ManifestError`: there is none, it is no manifest of this version, or its digest is not that of its content.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise ManifestError(
            f"{folder.name!r} has no {MANIFEST_NAME}, so nothing in it can be checked. `llava publish` writes one."
        )
    try:
        values = read_json(path)
    except (DocumentError, OSError) as error:
        raise ManifestError(f"{MANIFEST_NAME} is not readable: {error} Fetch the publication again.") from error
    version = values.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        if version is None:
            raise ManifestError(f"{MANIFEST_NAME} is not readable: it states no version. Fetch the publication again.")
        raise ManifestError(
            f"{MANIFEST_NAME} has version {str(version)[:20]}; this program reads {SCHEMA_VERSION}. Update it."
        )
    if faults := list(_faults(values)):
        raise ManifestError(f"{MANIFEST_NAME} is not readable: {faults[0]}. Fetch the publication again.")
    manifest = Manifest(*(values[name] for name in ("layout", "repo_id", "files", "tensors", "incomplete")))
    try:
        stated = values["digest"], values["tensors_digest"]
        computed = manifest.digest, manifest.tensors_digest
    except UnicodeEncodeError as error:  # half a character in a name
        raise ManifestError(f"{MANIFEST_NAME} is not readable: it names what is no text ({error.reason}).") from error
    if stated != computed:
        raise ManifestError(
            f"{MANIFEST_NAME} contradicts itself: it states digest {stated[0][:12]}, its content has "
            f"{computed[0][:12]}. It was changed after it was written."
        )
    return manifest


def listed_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Path, size and SHA-256 of what a manifest lists."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and is_listed(name):
            files[name] = {"size": path.stat().st_size, "sha256": file_digest(path)}
    return files


def with_more_files(manifest: Manifest, folder: Path, more: Path) -> Manifest:
    """
    The manifest of a folder once the files of another one were copied over it.

    Args:
        manifest (`Manifest`): Of the folder as it is.
        folder (`Path`): Is read where weights are added, and not written.
        more (`Path`): What will lie in it too, or in place of what lies there.
    """
    files = {**manifest.files, **listed_files(more)}
    weights = {path.name: path for place in (folder, more) for path in place.glob("*.safetensors")}
    has_more = any(more.glob("*.safetensors"))
    return replace(
        manifest,
        files={name: files[name] for name in sorted(files, key=PurePosixPath)},
        tensors=tensor_digests_of_files(weights.values()) if has_more else manifest.tensors,
    )


def is_listed(name: str) -> bool:
    """Whether a manifest lists a file of this name."""
    return name not in NOT_LISTED and not name.startswith(tuple(f"{folder}/" for folder in NOT_LISTED_FOLDERS))


def _faults(values: dict[str, Any]) -> Iterator[str]:
    """What is not of the form that `write_manifest` gives."""
    if values.get("layout") not in _LAYOUTS:
        yield f"its layout is {str(values.get('layout'))[:40]!r}, not open_llava or builtin"
    for name in ("repo_id", "digest", "tensors_digest"):
        if not isinstance(values.get(name), str):
            yield f"its {name} is no text"
    incomplete = values.get("incomplete")
    if not isinstance(incomplete, list) or not all(isinstance(one, str) for one in incomplete):
        yield "`incomplete` is no list of texts"
    files, tensors = values.get("files"), values.get("tensors")
    if not isinstance(files, dict) or not files or not all(map(_is_entry, files.values())):
        yield "`files` does not give the size and SHA-256 of at least one file"
    if not isinstance(tensors, dict) or not all(map(_is_sha256, tensors.values())):
        yield "`tensors` does not give a SHA-256 for every name"


def _is_entry(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"size", "sha256"}
        and type(value["size"]) is int
        and _is_sha256(value["sha256"])
    )


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


__all__ = [
    "MANIFEST_NAME",
    "Manifest",
    "ManifestError",
    "NOT_LISTED",
    "NOT_LISTED_FOLDERS",
    "TAG_PREFIX",
    "is_listed",
    "listed_files",
    "read_manifest",
    "with_more_files",
    "write_manifest",
]
