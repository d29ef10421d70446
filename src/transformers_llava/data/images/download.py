"""Fetch images behind addresses into a cache, where a source allows it, and image roots on the Hub."""

import hashlib
import http.client
import logging
import re
import time
from pathlib import Path

from transformers_llava.artifacts.limits import MAX_REMOTE_ATTEMPTS
from transformers_llava.data.cache import default_cache_dir, keep_file
from transformers_llava.data.images.connection import download
from transformers_llava.data.images.decoding import check_decodes
from transformers_llava.data.schema import RecordError


logger = logging.getLogger(__name__)

REMOTE_SCHEMES = ("http://", "https://")
HUB_ROOT = re.compile(r"hf://datasets/([^/@]+/[^/@]+)@([0-9a-f]{40})(?:/(.*))?")


def is_remote(path: str | None) -> bool:
    return path is not None and path.lower().startswith(REMOTE_SCHEMES)


def remote_file(url: str) -> Path:
    """
    Where the image behind an address lies, or would lie: below `TRANSFORMERS_LLAVA_CACHE` (see `default_cache_dir`).
    """
    digest = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
    return default_cache_dir() / "remote_images" / digest[:2] / digest


def fetch_image(url: str) -> bytes:
    """
    The encoded file behind an address: kept in the cache once it was fetched whole and could be decoded.

    Only `http` and `https`, also after a redirection, and only public addresses (see `connecting`); at most
    `MAX_REMOTE_IMAGE_BYTES`; a few attempts where the server or the line fails, one where the server says that there
    is no such image.

    Raises:
        `RecordError`: `remote_image`, with what went wrong; or what is wrong with the image, as `open_image` says it.
    """
    file = remote_file(url)
    try:
        return file.read_bytes()
    except OSError:  # not fetched yet, or another user's
        data = _fetch(url)
    check_decodes(data, repr(url[:200]))
    keep_file(file, lambda unfinished: unfinished.write_bytes(data))
    return data


def _fetch(url: str) -> bytes:
    # Not huggingface_hub's `http_backoff`: its client follows redirects to any address, resolves names by itself, and
    # bounds neither bytes nor time; `download` asks public addresses alone, also after a redirect.
    for attempt in range(MAX_REMOTE_ATTEMPTS):
        try:
            return download(url)
        except (OSError, ValueError, http.client.HTTPException) as error:
            status = getattr(error, "code", None)
            is_final = isinstance(error, ValueError | http.client.InvalidURL)
            is_final = is_final or (status is not None and 300 <= status < 500)
            if is_final or attempt + 1 == MAX_REMOTE_ATTEMPTS:
                raise RecordError(
                    "remote_image",
                    f"the image {url[:200]!r} could not be fetched ({type(error).__name__}: {error}). The record has "
                    "no image to train on. Correct the address, or download the image yourself.",
                ) from error
            time.sleep(0.5 * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


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

    from transformers_llava.data.images.archives import check_archive, is_archive

    match = HUB_ROOT.fullmatch(root)
    if match is None:
        raise ValueError(
            f"the image root {root!r} is not hf://datasets/OWNER/NAME@COMMIT[/FOLDER or ARCHIVE] with the 40 digits "
            "of a commit. A branch moves, and the images with it."
        )
    repository, revision, inside = match[1], match[2], (match[3] or "").strip("/")
    if ".." in inside.split("/"):
        raise ValueError(f"the image root {root!r} leaves its repository. Remove the `..`.")
    check_archive(inside)
    try:
        if is_archive(Path(inside)):
            return Path(hf_hub_download(repository, inside, repo_type="dataset", revision=revision))
        patterns = [f"{inside}/**"] if inside else None
        folder = snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=patterns)
    except ValueError:
        raise
    except Exception as error:  # of the Hub's client, which also passes on those of the network beneath it
        raise ValueError(
            f"the image root {root!r} cannot be fetched ({type(error).__name__}: {error}). Every image would be "
            "missing. Check its name and the network, and whether you may read the repository."
        ) from error
    if not (Path(folder) / inside).is_dir():
        raise ValueError(f"the image root {root!r}: the repository has no folder {inside!r} at this commit.")
    return Path(folder) / inside


__all__ = ["REMOTE_SCHEMES", "fetch_image", "fetch_image_root", "is_remote", "remote_file"]
