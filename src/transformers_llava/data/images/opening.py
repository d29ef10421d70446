"""Turn image references into sizes and RGB images: paths stay in their root, and every fault gets a named reason."""

import hashlib
import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from transformers_llava.artifacts.limits import MAX_IMAGE_BYTES
from transformers_llava.data.images.archives import (
    ARCHIVE_SCHEMES,
    MemberError,
    read_member,
)
from transformers_llava.data.images.decoding import opened, upright_rgb, upright_size
from transformers_llava.data.images.download import fetch_image, is_remote
from transformers_llava.data.schema import ImageReference, RecordError


def read_image_bytes(reference: ImageReference) -> bytes:
    """
    The encoded file behind a reference, of at most `MAX_IMAGE_BYTES`.

    Raises:
        `RecordError`: `missing_image`, `remote_image`; of a member of an archive also `unreadable_image` and
            `decompression_bomb`.
    """
    if reference["bytes"] is not None:
        return reference["bytes"]
    path = reference["path"]
    if path is None:
        raise RecordError("missing_image", "the image has neither bytes nor a path. Add one of them.")
    if is_remote(path):
        return fetch_image(path)
    try:
        if path.startswith(ARCHIVE_SCHEMES):
            return read_member(path)
        with _open_file(path) as stream:
            return stream.read(MAX_IMAGE_BYTES)
    except MemberError as error:
        raise RecordError(error.reason, f"the image {path!r} cannot be read: {error}") from error
    except (OSError, KeyError) as error:
        raise _missing(repr(path), error) from error


def image_size(reference: ImageReference) -> tuple[int, int]:
    """(width, height) of the image as it will be seen, EXIF rotation included, from the header alone."""
    with _opened(reference) as image:
        return upright_size(image)


def open_image(reference: ImageReference) -> Image.Image:
    """
    The image: wholly decoded, turned upright as its EXIF says, RGB.

    Sixteen bits of grey or colour keep their upper eight. An animation is its first frame.

    Raises:
        `RecordError`: `missing_image`, `truncated_image`, `unreadable_image`, `unsupported_image`,
            `decompression_bomb`, `remote_image`.
    """
    with _opened(reference) as image:
        return upright_rgb(image)


def check_image(reference: ImageReference, level: str) -> str | None:
    """
    Look at an image before training: all of it (`decode`), its header (`header`), or whether it is there (`none`).

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
    """A lazily opened image; whatever goes wrong with it, here or in the body, becomes a RecordError."""
    path = reference["path"]
    where = "embedded in the record" if path is None else repr(path)
    try:
        with _stream(reference) as stream, opened(stream, where) as image:
            yield image
    except OSError as error:
        raise _missing(where, error) from error


def _stream(reference: ImageReference) -> BinaryIO:
    path = reference["path"]
    if reference["bytes"] is not None or path is None or path.startswith(ARCHIVE_SCHEMES) or is_remote(path):
        return io.BytesIO(read_image_bytes(reference))
    return _open_file(path)


def _open_file(path: str) -> BinaryIO:
    """Raises `OSError` for what is no file (a pipe would be waited for without end), and for one too large."""
    status = Path(path).stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(f"{path!r} is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(f"{path!r} is no regular file")
    if status.st_size > MAX_IMAGE_BYTES:
        raise RecordError(
            "decompression_bomb",
            f"the image {path!r} has {status.st_size:,} bytes, more than the {MAX_IMAGE_BYTES:,} that are read of "
            "one. It is not opened. Save it smaller.",
        )
    return open(path, "rb")


def _missing(where: str, error: Exception | None) -> RecordError:
    cause = f" ({type(error).__name__}: {error})" if error is not None else ""
    return RecordError(
        "missing_image",
        f"the image {where} cannot be opened{cause}. The record has no image to train on. "
        "Check `image_root`, or download the file.",
    )


__all__ = ["check_image", "image_size", "open_image", "read_image_bytes"]
