"""Image references to sizes and RGB pictures: paths stay in their root, and every broken file gets a named reason."""

import hashlib
import io
import posixpath
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from transformers_llava.data.archives import ARCHIVE_SCHEMES, archive_reference, is_archive, read_member
from transformers_llava.data.remote import fetch_image, is_remote
from transformers_llava.data.schema import ImageReference, RecordError


_URL = re.compile(r"^(data:|[a-z][a-z0-9+.-]*://)", re.IGNORECASE)  # http://…, s3://…, data:image/png;base64,…
_WINDOWS_ABSOLUTE = re.compile(r"^([a-zA-Z]:[\\/]|\\\\)")
_EXIF_ORIENTATION = 0x0112
_EXIF_TEXT = b"Raw profile type exif"
_ROTATED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


def resolve_image(name: str, image_root: Path | None) -> ImageReference:
    """
    The path of a record to a reference that cannot point outside `image_root`. No file is opened.

    Args:
        name (`str`):
            What the record says: a path relative to `image_root`, or an absolute one inside it.
        image_root (`Path`, *optional*):
            A folder, or a `.zip` / `.tar` file whose members are the pictures.

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
    """The way from the image root to a picture, or the name of a member; `None` for bytes and what lies outside."""
    path = reference["path"]
    if reference["bytes"] is not None or path is None:
        return None
    if path.startswith(ARCHIVE_SCHEMES):
        return path[6:].rpartition("::")[0]
    root = "" if image_root is None else posixpath.normpath(image_root.as_posix()).rstrip("/") + "/"
    return path[len(root) :] if path.startswith(root) else None


def read_image_bytes(reference: ImageReference) -> bytes:
    """The encoded file behind a reference. Raises `RecordError("missing_image")` when there is none."""
    if reference["bytes"] is not None:
        return reference["bytes"]
    path = reference["path"]
    if path is None:
        raise RecordError("missing_image", "the image has neither bytes nor a path. Add one of them.")
    try:
        if is_remote(path):
            return fetch_image(path).read_bytes()
        if path.startswith(ARCHIVE_SCHEMES):
            return read_member(path)
        return Path(path).read_bytes()
    except (OSError, KeyError) as error:
        raise _missing(repr(path), error) from error


def image_size(reference: ImageReference) -> tuple[int, int]:
    """(width, height) of the picture as it will be seen, EXIF rotation included, from the header alone."""
    with _opened(reference) as image:
        width, height = image.size
        if image.format == "TIFF":  # Pillow turns these by itself, and says so in `size`
            return width, height
        if isinstance(image, PngImageFile) and not _has_late_exif(image):
            exif = Image.Image.getexif(image)  # PngImageFile.getexif decodes all pixels in search of a late chunk
        else:
            exif = image.getexif()
        return (height, width) if exif.get(_EXIF_ORIENTATION) in _ROTATED else (width, height)


def open_image(reference: ImageReference) -> Image.Image:
    """
    The picture: wholly decoded, turned upright as its EXIF says, RGB.

    Raises:
        `RecordError`: `missing_image`, `truncated_image`, `unreadable_image`, `decompression_bomb`.
    """
    with _opened(reference) as image:
        image.load()
        return ImageOps.exif_transpose(image).convert("RGB")


def check_image(reference: ImageReference, level: str) -> str | None:
    """
    Look at a picture before training: all of it (`decode`), its header (`header`), or whether it is there (`none`).

    Returns:
        `str | None`: SHA-256 of its bytes at level `decode`, where all bytes are read anyway.
    """
    if level == "decode":
        data = read_image_bytes(reference)
        open_image({"bytes": data, "path": reference["path"]})
        return hashlib.sha256(data).hexdigest()
    if level == "header":
        image_size(reference)
    elif reference["bytes"] is None:
        path = reference["path"]
        if path is None or path.startswith(ARCHIVE_SCHEMES) or is_remote(path):
            read_image_bytes(reference)
        elif not Path(path).is_file():
            raise _missing(repr(path), None)
    return None


@contextmanager
def _opened(reference: ImageReference) -> Iterator[Image.Image]:
    """A lazily opened picture; whatever goes wrong with it, here or in the body, becomes a RecordError."""
    path = reference["path"]
    where = "embedded in the record" if path is None else repr(path)
    stream: Any = path
    if reference["bytes"] is not None or path is None or path.startswith(ARCHIVE_SCHEMES) or is_remote(path):
        stream = io.BytesIO(read_image_bytes(reference))
    try:
        with Image.open(stream) as image:
            _refuse_bomb(image.size, where)
            yield image
    except RecordError:
        raise
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise _missing(where, error) from error
    except Image.DecompressionBombError as error:
        raise RecordError("decompression_bomb", f"the image {where} is refused. {error}") from error
    except UnidentifiedImageError as error:
        raise RecordError(
            "unreadable_image", f"the image {where} is not a picture that Pillow can read. Replace the file."
        ) from error
    except Exception as error:  # decoders of damaged files raise OSError, SyntaxError (PNG), struct.error, zlib.error
        reason = "truncated_image" if _looks_truncated(error) else "unreadable_image"
        raise RecordError(
            reason, f"the image {where} cannot be decoded ({type(error).__name__}: {error}). Download it again."
        ) from error


def _has_late_exif(image: PngImageFile) -> bool:
    """Whether a PNG has its rotation behind the pixels: walks from chunk to chunk without reading the pixels."""
    stream = image.fp
    assert stream is not None
    stream.seek(8)  # the signature
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        start = stream.read(min(length, len(_EXIF_TEXT)))
        if kind == b"eXIf" or start == _EXIF_TEXT:
            return "exif" not in image.info
        stream.seek(length - len(start) + 4, io.SEEK_CUR)  # and the checksum
    return False


def _refuse_bomb(size: tuple[int, int], where: str) -> None:
    limit = Image.MAX_IMAGE_PIXELS  # Pillow only warns up to twice its limit; here the limit is the limit
    if limit is not None and size[0] * size[1] > limit:
        raise RecordError(
            "decompression_bomb",
            f"the image {where} has {size[0]}x{size[1]} pixels, over the limit of {limit}. Decoding it could exhaust "
            "the memory. Scale it down, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it.",
        )


def _looks_truncated(error: Exception) -> bool:
    words = str(error).lower()
    return isinstance(error, EOFError) or "truncated" in words or "unexpected end" in words or "incomplete" in words


def _missing(where: str, error: Exception | None) -> RecordError:
    cause = f" ({type(error).__name__}: {error})" if error is not None else ""
    return RecordError(
        "missing_image",
        f"the image {where} cannot be opened{cause}. The record has no picture to train on. "
        "Check `image_root`, or download the file.",
    )


__all__ = ["check_image", "image_size", "open_image", "path_in_root", "read_image_bytes", "resolve_image"]
