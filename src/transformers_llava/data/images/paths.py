"""Resolve image names of records to paths that stay in their root."""

import posixpath
import re
from pathlib import Path

from transformers_llava.data.images.archives import ARCHIVE_SCHEMES, archive_reference, is_archive
from transformers_llava.data.schema import ImageReference, RecordError


_URL = re.compile(r"^(data:|[a-z][a-z0-9+.-]*://)", re.IGNORECASE)  # http://…, s3://…, data:image/png;base64,…


_WINDOWS_ABSOLUTE = re.compile(r"^([a-zA-Z]:[\\/]|\\\\)")


def resolve_image(name: str, image_root: Path | None) -> ImageReference:
    """
    The path of a record to a reference that cannot point outside `image_root`. No file is opened.

    Args:
        name (`str`):
            What the record says: a path relative to `image_root`, or an absolute one inside it.
        image_root (`Path`, *optional*):
            A folder, or a `.zip` / `.tar` file whose members are the images.

    Raises:
        `RecordError`: `remote_image`, `path_escapes_root`, `missing_image_root` or `invalid_record`.

    ```python
    >>> resolve_image("coco/1.jpg", Path("images"))["path"]
    'images/coco/1.jpg'
    ```
    """
    if not name or "\0" in name:
        raise RecordError("invalid_record", f"the image path {name[:200]!r} is empty or contains a null byte.")
    if _URL.match(name):
        raise RecordError(
            "remote_image",
            f"the image {name[:200]!r} is a URL, and nothing is fetched unless the source says so. Download it and "
            "write its path into the record, or set `remote_images: fetch` for http addresses that you trust.",
        )
    if image_root is None:
        raise RecordError(
            "missing_image_root",
            f"the image {name[:200]!r} has no folder to be looked up in. Set `image_root` of the source.",
        )
    in_archive = is_archive(image_root)
    root = "" if in_archive else posixpath.normpath(image_root.as_posix())
    # Lexical on purpose: a link that the owner of the folder made is fine, a `..` that a record wrote is not. The
    # normalised path is the one that is opened, so `link/../x` cannot mean one file here and another to the system.
    path = posixpath.normpath(posixpath.join(root, name))
    prefix = "" if root in ("", ".") else root.rstrip("/") + "/"
    escapes = path in ("..", ".", root) or path.startswith("../") or not path.startswith(prefix)
    if not prefix:
        escapes = escapes or path.startswith("/")
    if escapes or _WINDOWS_ABSOLUTE.match(name):
        raise RecordError(
            "path_escapes_root",
            f"the image path {name[:200]!r} points outside of the image root {str(image_root)!r}. It is not opened. "
            "Correct the path, or choose a root that contains it.",
        )
    return {"bytes": None, "path": archive_reference(image_root, path) if in_archive else path}


def path_in_root(reference: ImageReference, image_root: Path | None) -> str | None:
    """The way from the image root to an image, or the name of a member; `None` for bytes and what lies outside."""
    path = reference["path"]
    if reference["bytes"] is not None or path is None:
        return None
    if path.startswith(ARCHIVE_SCHEMES):
        return path[6:].rpartition("::")[0]
    root = "" if image_root is None else posixpath.normpath(image_root.as_posix()).rstrip("/") + "/"
    return path[len(root) :] if path.startswith(root) else None


__all__ = ["path_in_root", "resolve_image"]
