"""Read what a Hub repository holds now, to compare it with a folder that is ready, or to verify it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from transformers_llava.hub.publication.manifest import MANIFEST_NAME, ManifestError, read_manifest
from transformers_llava.hub.upload.remote_errors import RemoteError, remote_errors
from transformers_llava.hub.verification.expectation import Expected, is_tag


@dataclass(frozen=True)
class RemoteFile:
    """Size and content of a file on the Hub: the SHA-256 of a large one, git's SHA-1 of another."""

    size: int
    blob_id: str
    sha256: str | None


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
    """
    What the repository holds at `main` or another revision; without a commit where there is no such repository.

    Raises:
        `RemoteError`: it cannot be read; why, and what helps.
    """
    with remote_errors(repo_id, revision):
        try:
            head = api.repo_info(repo_id, revision=revision).sha
        except GatedRepoError:  # it is there, which `RepositoryNotFoundError`, its parent, would deny
            raise
        except RepositoryNotFoundError:
            return RemoteState(repo_id)
        files = {}
        for entry in api.list_repo_tree(repo_id, recursive=True, revision=head):
            if isinstance(entry, RepoFile):
                lfs: Any = entry.lfs
                files[entry.path] = RemoteFile(entry.size, entry.blob_id, None if lfs is None else lfs.sha256)
        tags = {tag.name: tag.target_commit for tag in api.list_repo_refs(repo_id).tags}
        return RemoteState(repo_id, head, files, tags)


def differing_files(api: HfApi, state: RemoteState, folder: Path) -> list[str]:
    """
    Files of a folder that the repository does not hold with the same bytes at `state.head`, sorted by path.

    Raises:
        `RemoteError`: the repository cannot be read.
    """
    ours = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    if state.head is None:
        return ours
    with remote_errors(state.repo_id):
        compared = api.verify_repo_checksums(state.repo_id, revision=state.head, local_dir=folder)
    # What the client passes over on this side, such as `.cache/huggingface`, it counts as missing: it differs too.
    same = state.files.keys() - set(compared.missing_paths) - {one["path"] for one in compared.mismatches}
    return [name for name in ours if name not in same]


def read_remote_text(api: HfApi, state: RemoteState, path: str) -> str | None:
    """
    A small file of the repository; `None` where there is none.

    Raises:
        `RemoteError`: it cannot be read, or is no text.
    """
    if path not in state.files or state.head is None:
        return None
    with remote_errors(state.repo_id):
        try:
            file = hf_hub_download(state.repo_id, path, revision=state.head, token=api.token)
        except (EntryNotFoundError, RevisionNotFoundError):
            return None
    try:
        return Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RemoteError(
            f"{path} of {state.repo_id!r} is no UTF-8 text ({error.reason} at byte {error.start}), so what a user "
            "wrote in it cannot be kept. Correct it on the Hub."
        ) from error


def published_before(api: HfApi, state: RemoteState) -> set[str]:
    """The files that an earlier publication has put there, by its manifest; of a foreign repository none."""
    if MANIFEST_NAME not in state.files or state.head is None:
        return set()
    with remote_errors(state.repo_id):
        try:
            path = Path(hf_hub_download(state.repo_id, MANIFEST_NAME, revision=state.head, token=api.token))
            return set(read_manifest(path.parent).files)
        except (ManifestError, EntryNotFoundError):
            return set()


def expected_of(state: RemoteState, revision: str | None) -> Expected:
    """
    What the manifest at `state.head` has to be.

    A revision that looks like `v-<digest>` is what the user expects, whatever the repository holds beside it. The tags
    of the repository are what it says of itself.
    """
    ours = sorted(tag for tag in state.tags if is_tag(tag))
    here = tuple(tag for tag in ours if state.tags[tag] == state.head)
    elsewhere = tuple(tag for tag in ours if tag not in here)
    named = (revision or "").removeprefix("refs/tags/")  # the Hub takes the whole name of a tag too
    return Expected((named,) if is_tag(named) else (), here, elsewhere)


def fetch_publication(api: HfApi, repo_id: str, revision: str | None = None) -> tuple[Path, Expected]:
    """
    A repository's files at one commit, in the Hub's cache, and what their manifest has to be.

    Raises:
        `RemoteError`: it cannot be fetched; why, and what helps.
    """
    with remote_errors(repo_id, revision):
        state = read_remote(api, repo_id, revision)
        if state.head is None:
            raise RemoteError(
                f"{repo_id!r} is neither a folder here nor a repository of the Hub that can be read. Check the name; "
                "a private repository needs `hf auth login` with an account that may read it."
            )
        folder = Path(snapshot_download(repo_id, revision=state.head, token=api.token))
        return folder, expected_of(state, revision)


__all__ = [
    "RemoteFile",
    "RemoteState",
    "differing_files",
    "expected_of",
    "fetch_publication",
    "published_before",
    "read_remote",
    "read_remote_text",
]
