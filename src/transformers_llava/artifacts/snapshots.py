"""Find the folder that a name stands for: one on this machine, or the local copy of a Hub repository."""

import logging
import os
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from transformers_llava.artifacts.hub_errors import explain_hub_error


logger = logging.getLogger(__name__)

_SMALL_FILES = ("*.json", "*.jinja", "*.txt", "tokenizer.model")
_NETWORK_ERRORS = (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, httpx2.HTTPError, OSError)


class FolderNotFoundError(ValueError):
    """A name is neither a folder nor a Hub repository that can be read; says which of many reasons it is."""


def find_folder(
    name: Any,
    what: str = "the checkpoint",
    *,
    revision: str | None = None,
    token: Any = None,
    with_weights: bool = False,
) -> Path:
    """
    The folder itself, or the local copy of a Hub repository.

    Args:
        name (`str` or `Path`): Folder or Hub id.
        what (`str`, *optional*): What it is to the user, for the error.
        with_weights (`bool`, *optional*, defaults to `False`): Also fetch weights, safetensors where there are any;
            else only the small files.

    Raises:
        `FolderNotFoundError`: There is none. No network, a gated repository, one that is not there and a name that
            can be neither have a message each.
    """
    try:
        if os.path.isdir(name):  # False, not an error, for names that no file system takes
            return Path(name)
        return _fetched(str(name), revision, token, with_weights)
    except _NETWORK_ERRORS as error:
        raise FolderNotFoundError(_reason(str(name), what, revision, error)) from error


def local_folder(
    name: Any, revision: str | None = None, token: Any = None, *, with_weights: bool = False
) -> Path | None:
    """[`find_folder`], or `None` where there is no such folder."""
    if name is None:
        return None
    try:
        return find_folder(name, revision=revision, token=token, with_weights=with_weights)
    except FolderNotFoundError as error:
        logger.debug("%s", error)
        return None


def explain_unreachable(name: Any, what: str, error: BaseException) -> str:
    """What to tell a user whose `from_pretrained(name)` ended in `error`: the reason of [`find_folder`]."""
    try:
        find_folder(name, what)
    except FolderNotFoundError as reason:
        return str(reason)
    return f"{what} {str(name)!r} cannot be read: {' '.join(str(error).split())[:500]}"


def _fetched(name: str, revision: str | None, token: Any, with_weights: bool) -> Path:
    for weights in ("*.safetensors", "*.bin") if with_weights else (None,):
        patterns = [*_SMALL_FILES, *([weights] if weights else [])]
        folder = Path(snapshot_download(name, revision=revision, token=token, allow_patterns=patterns))
        if weights is None or any(folder.glob(weights)):
            break
    return folder


def _reason(name: str, what: str, revision: str | None, error: BaseException) -> str:
    start = f"{what} {name if len(name) <= 200 else name[:200] + '...'!r} cannot be read: "
    if isinstance(error, HFValidationError) or os.path.isabs(name) or os.path.exists(name):
        there = "it is a file" if os.path.isfile(name) else "there is no such folder"
        return f"{start}{there}, and it cannot be the name of a Hub repository (OWNER/NAME). Check the spelling."
    return start + (explain_hub_error(error, name, revision) or " ".join(str(error).split())[:300])


__all__ = ["FolderNotFoundError", "explain_unreachable", "find_folder", "local_folder"]
