"""Addresses of pictures to files in a cache, where a source allows it; image roots on the Hub to folders."""

import hashlib
import logging
import os
import re
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from transformers_llava.data.schema import RecordError


logger = logging.getLogger(__name__)

REMOTE_SCHEMES = ("http://", "https://")
HUB_ROOT = re.compile(r"hf://datasets/([^/@]+/[^/@]+)@([0-9a-f]{40})(?:/(.*))?")

_MOST_BYTES = 64 << 20  # a picture; anything larger is something else
_SECONDS = 30
_ATTEMPTS = 3


def is_remote(path: str | None) -> bool:
    return path is not None and path.lower().startswith(REMOTE_SCHEMES)


def remote_file(url: str) -> Path:
    """
    Where the picture behind an address lies, or would lie: below `TRANSFORMERS_LLAVA_CACHE` (see `default_cache_dir`).
    """
    from transformers_llava.data.parsing import default_cache_dir  # reading pictures comes below it

    digest = hashlib.sha256(url.encode()).hexdigest()
    return default_cache_dir() / "remote_images" / digest[:2] / digest


def fetch_image(url: str) -> Path:
    """
    The file of a picture, fetched unless it is there.

    Only `http` and `https`, also after a redirection; at most 64 MB; three attempts where the server or the line
    fails, one where the server says that there is no such picture.

    Raises:
        `RecordError`: `remote_image`, with what went wrong.
    """
    file = remote_file(url)
    if file.is_file():
        return file
    for attempt in range(_ATTEMPTS):
        try:
            data = _download(url)
        except (OSError, ValueError) as error:
            status = getattr(error, "code", None)
            is_final = isinstance(error, ValueError) or (status is not None and 400 <= status < 500)
            if is_final or attempt + 1 == _ATTEMPTS:
                raise RecordError(
                    "remote_image",
                    f"the image {url[:200]!r} could not be fetched ({type(error).__name__}: {error}). The record has "
                    "no picture to train on. Correct the address, or download the picture yourself.",
                ) from error
            time.sleep(0.5 * 2**attempt)
            continue
        _store(file, data)
        break
    return file


def _store(file: Path, data: bytes) -> None:
    """All of the file or nothing, whoever fetches it at the same time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=file.parent)
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
    os.replace(unfinished, file)


class _OnlyHttp(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not is_remote(newurl):
            raise ValueError(f"it redirects to {newurl[:200]!r}, which is not http")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "transformers-llava"})
    with urllib.request.build_opener(_OnlyHttp).open(request, timeout=_SECONDS) as response:
        data: bytes = response.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES:,} bytes")
    return data


def fetch_image_root(root: str) -> Path:
    """
    An image root on the Hub, as a folder or archive on this disk.

    Args:
        root (`str`):
            `hf://datasets/OWNER/NAME@COMMIT`, with the 40 digits of a commit, and after it the folder or the archive
            inside the repository: `.../images` or `.../images.zip`.

    Raises:
        `ValueError`: the address is not of this form, or there is no such folder or archive.
    """
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    from transformers_llava.data.archives import is_archive

    match = HUB_ROOT.fullmatch(root)
    if match is None:
        raise ValueError(
            f"the image root {root!r} is not hf://datasets/OWNER/NAME@COMMIT[/FOLDER or ARCHIVE] with the 40 digits "
            "of a commit. A branch moves, and the pictures with it."
        )
    repository, revision, inside = match[1], match[2], (match[3] or "").strip("/")
    if ".." in inside.split("/"):
        raise ValueError(f"the image root {root!r} leaves its repository. Remove the `..`.")
    try:
        if is_archive(Path(inside)):
            return Path(hf_hub_download(repository, inside, repo_type="dataset", revision=revision))
        patterns = [f"{inside}/**"] if inside else None
        folder = snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=patterns)
    except (EntryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError) as error:
        raise ValueError(
            f"the image root {root!r} cannot be fetched ({error}). Every picture would be missing."
        ) from error
    if not (Path(folder) / inside).is_dir():
        raise ValueError(f"the image root {root!r}: the repository has no folder {inside!r} at this commit.")
    return Path(folder) / inside


__all__ = ["REMOTE_SCHEMES", "fetch_image", "fetch_image_root", "is_remote", "remote_file"]
