"""A publication's folder to `manifest.json`: what every file and tensor of it is, under one digest."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers_llava.conversion.origins import file_digest
from transformers_llava.hub.tensors import combined_tensor_digest, tensor_digests


MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION = 1
TAG_PREFIX = "v-"

# People edit cards on the Hub; git and the client leave files of their own; a signature signs the manifest.
_NOT_LISTED = {MANIFEST_NAME, "README.md", ".gitattributes", "model.sig"}


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
        """The tag of the commit that holds it, such as `v-0123456789ab`."""
        return TAG_PREFIX + self.digest[:12]

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


def write_manifest(folder: Path, *, layout: str, repo_id: str, incomplete: list[str] | None = None) -> Manifest:
    """Lists a folder that is otherwise complete, and writes `manifest.json` into it."""
    manifest = Manifest(layout, repo_id, listed_files(folder), tensor_digests(folder), sorted(incomplete or []))
    text = json.dumps(manifest.to_dict(), indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")
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
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values["schema_version"]
        if version != SCHEMA_VERSION:
            raise ManifestError(
                f"{MANIFEST_NAME} has version {version!r}; this program reads {SCHEMA_VERSION}. Update it."
            )
        manifest = Manifest(*(values[name] for name in ("layout", "repo_id", "files", "tensors", "incomplete")))
        stated = values["digest"], values["tensors_digest"]
        computed = manifest.digest, manifest.tensors_digest
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ManifestError):
            raise
        raise ManifestError(f"{MANIFEST_NAME} is not readable ({error!r}). Fetch the publication again.") from error
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
        if path.is_file() and name not in _NOT_LISTED and ".cache" not in path.relative_to(folder).parts:
            files[name] = {"size": path.stat().st_size, "sha256": file_digest(path)}
    return files


__all__ = [
    "MANIFEST_NAME",
    "TAG_PREFIX",
    "Manifest",
    "ManifestError",
    "listed_files",
    "read_manifest",
    "write_manifest",
]
