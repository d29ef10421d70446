"""A Hub repository to what lies there now, and its difference to a folder that is ready to go."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile

from transformers_llava.hub.manifest import MANIFEST_NAME, TAG_PREFIX, ManifestError, read_manifest


@dataclass(frozen=True)
class RemoteFile:
    """Size and content of a file on the Hub: the SHA-256 of a large one, git's SHA-1 of another."""

    size: int
    blob_id: str
    sha256: str | None

    def equals(self, path: Path) -> bool:
        """Whether a file here has the same bytes."""
        if path.stat().st_size != self.size:
            return False
        if self.sha256 is not None:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        data = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == self.blob_id


@dataclass
class RemoteState:
    """
    A repository at one commit.

    Args:
        head (`str`, *optional*): The commit of `main`; `None` where there is no such repository.
        files (`dict`): Path -> what it is.
        tags (`dict`): Tag -> commit.
    """

    repo_id: str
    head: str | None = None
    files: dict[str, RemoteFile] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def read_remote(api: HfApi, repo_id: str, revision: str | None = None) -> RemoteState:
    """What the repository holds at `main` or another revision."""
    try:
        head = api.repo_info(repo_id, revision=revision).sha
    except RepositoryNotFoundError:
        return RemoteState(repo_id)
    files = {}
    for entry in api.list_repo_tree(repo_id, recursive=True, revision=head):
        if isinstance(entry, RepoFile):
            lfs: Any = entry.lfs
            files[entry.path] = RemoteFile(entry.size, entry.blob_id, None if lfs is None else lfs.sha256)
    tags = {tag.name: tag.target_commit for tag in api.list_repo_refs(repo_id).tags}
    return RemoteState(repo_id, head, files, tags)


def read_remote_text(api: HfApi, state: RemoteState, path: str) -> str | None:
    """A small file of the repository; `None` where there is none."""
    if path not in state.files or state.head is None:
        return None
    try:
        file = hf_hub_download(state.repo_id, path, revision=state.head, token=api.token)
    except (EntryNotFoundError, RevisionNotFoundError):
        return None
    return Path(file).read_text(encoding="utf-8")


def published_before(api: HfApi, state: RemoteState) -> set[str]:
    """The files that an earlier publication has put there, by its manifest; of a foreign repository none."""
    if MANIFEST_NAME not in state.files or state.head is None:
        return set()
    try:
        path = Path(hf_hub_download(state.repo_id, MANIFEST_NAME, revision=state.head, token=api.token))
        return set(read_manifest(path.parent).files)
    except (ManifestError, EntryNotFoundError):
        return set()


def tag_of(state: RemoteState, folder: Path) -> str | None:
    """
    The tag by which what was fetched from `state.head` has to be judged.

    Of a tagged commit its own. Of a later one the tag of the same manifest, for people edit cards after a publication.
    Where there are tags and none fits, one of them: the manifest was written anew, and will be told so. `None` for a
    repository without a tag of ours.
    """
    ours = [tag for tag in state.tags if tag.startswith(TAG_PREFIX)]
    there = [tag for tag in ours if state.tags[tag] == state.head]
    try:
        named = read_manifest(folder).tag
    except ManifestError:
        named = None
    if named in ours and named not in there:
        there.insert(0, named)
    return next(iter(there or ours), None)


__all__ = ["RemoteFile", "RemoteState", "published_before", "read_remote", "read_remote_text", "tag_of"]
