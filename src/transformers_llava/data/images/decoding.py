"""Decode the bytes of an image: formats from an allow-list, sizes before pixels, a named reason for every fault."""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from transformers_llava.artifacts.limits import MAX_IMAGE_PIXELS, MAX_IMAGE_SIDE, MAX_PNG_CHUNKS
from transformers_llava.data.schema import RecordError
from transformers_llava.modeling.images.image_opening import available_formats, check_range, to_8_bit


_EXIF_ORIENTATION = 0x0112
_EXIF_TEXT = b"Raw profile type exif"
_ROTATED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TILE_TAGS = (322, 323)  # TileWidth, TileLength of TIFF
_BOMBS = ("decompressed data too large", "too much memory used", "decompression bomb")  # as Pillow words them


@contextmanager
def opened(stream: IO[bytes], where: str) -> Iterator[Image.Image]:
    """
    A lazily opened image; whatever goes wrong with it, here or in the body, becomes a `RecordError`.

    Args:
        stream (`IO[bytes]`): The encoded file.
        where (`str`): Which image it is, for the error.

    Raises:
        `RecordError`: `truncated_image`, `unreadable_image`, `unsupported_image`, `decompression_bomb`.
    """
    try:
        _check_chunks(stream, where)
        with Image.open(stream, formats=available_formats()) as image:
            _refuse_bomb(image, where)
            _refuse_unknown_range(image, where)
            yield image
    except (RecordError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError):
        raise
    except Image.DecompressionBombError as error:
        raise RecordError("decompression_bomb", f"the image {where} is refused. {error}") from error
    except UnidentifiedImageError as error:
        raise RecordError(
            "unreadable_image",
            f"the image {where} is not in a format that is read ({', '.join(available_formats())}), "
            "whatever its name says. Replace the file.",
        ) from error
    except Exception as error:  # decoders of damaged files raise OSError, SyntaxError (PNG), struct.error, zlib.error
        raise RecordError(
            _reason(error), f"the image {where} cannot be decoded ({type(error).__name__}: {error}). Replace the file."
        ) from error


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) as the image will be seen, EXIF rotation included, from the header alone."""
    width, height = image.size
    if image.format == "TIFF":  # Pillow turns these by itself, and says so in `size`
        return width, height
    if isinstance(image, PngImageFile) and not _has_late_exif(image):
        exif = Image.Image.getexif(image)  # PngImageFile.getexif decodes all pixels in search of a late chunk
    else:
        exif = image.getexif()
    return (height, width) if exif.get(_EXIF_ORIENTATION) in _ROTATED else (width, height)


def upright_rgb(image: Image.Image) -> Image.Image:
    """The pixels: wholly decoded, the first frame of an animation, turned upright as EXIF says, 8-bit RGB."""
    image.load()
    return ImageOps.exif_transpose(to_8_bit(image)).convert("RGB")


def check_decodes(data: bytes, where: str) -> None:
    """Raises `RecordError` unless the bytes are an image from its first to its last pixel."""
    with opened(io.BytesIO(data), where) as image:
        upright_rgb(image)


def _refuse_unknown_range(image: Image.Image, where: str) -> None:
    try:
        check_range(image)
    except ValueError as error:
        raise RecordError("unsupported_image", f"the image {where} is refused: {error}") from error


def _refuse_bomb(image: Image.Image, where: str) -> None:
    # Pillow only warns up to twice its limit; here the limit is the limit. Libraries set Pillow's to None at times.
    limit = MAX_IMAGE_PIXELS if Image.MAX_IMAGE_PIXELS is None else Image.MAX_IMAGE_PIXELS
    sizes = {"has": image.size}
    tags = getattr(image, "tag_v2", None)
    if tags is not None and all(isinstance(tags.get(tag), int) for tag in _TILE_TAGS):
        sizes["is stored in tiles of"] = tuple(tags[tag] for tag in _TILE_TAGS)  # type: ignore[assignment]
    if max(image.size) > MAX_IMAGE_SIDE:
        raise RecordError(
            "decompression_bomb",
            f"the image {where} has {image.width}x{image.height} pixels, of which one is over the limit of "
            f"{MAX_IMAGE_SIDE}. Resizing it could exhaust the memory. Scale it down.",
        )
    for what, (width, height) in sizes.items():
        if width * height > limit:
            raise RecordError(
                "decompression_bomb",
                f"the image {where} {what} {width}x{height} pixels, over the limit of {limit}. Decoding it could "
                "exhaust the memory. Scale it down, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it.",
            )


def _check_chunks(stream: IO[bytes], where: str) -> None:
    """Refuse a PNG of millions of empty chunks: each costs time, however little it holds."""
    if stream.read(len(_PNG_SIGNATURE)) == _PNG_SIGNATURE:
        for number, (_, length) in enumerate(_chunks(stream)):
            if number == MAX_PNG_CHUNKS:
                raise RecordError(
                    "decompression_bomb",
                    f"the image {where} has more than {MAX_PNG_CHUNKS} chunks. It is not read. Save it anew.",
                )
            stream.seek(length + 4, io.SEEK_CUR)
    stream.seek(0)


def _has_late_exif(image: PngImageFile) -> bool:
    """Whether a PNG has its rotation behind the pixels: walks from chunk to chunk without reading the pixels."""
    stream = image.fp
    assert stream is not None
    stream.seek(len(_PNG_SIGNATURE))
    for kind, length in _chunks(stream):
        start = stream.read(min(length, len(_EXIF_TEXT)))
        if kind == b"eXIf" or start == _EXIF_TEXT:
            return "exif" not in image.info
        stream.seek(length - len(start) + 4, io.SEEK_CUR)  # and the checksum
    return False


def _chunks(stream: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Kind and length of the chunks; whoever asks moves the stream to the next one."""
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        yield kind, length


def _reason(error: Exception) -> str:
    words = str(error).lower()
    if any(bomb in words for bomb in _BOMBS):
        return "decompression_bomb"
    is_cut = isinstance(error, EOFError) or "truncated" in words or "unexpected end" in words or "incomplete" in words
    return "truncated_image" if is_cut else "unreadable_image"


__all__ = ["check_decodes", "opened", "upright_rgb", "upright_size"]
