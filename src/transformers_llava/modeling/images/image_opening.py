"""Open images from paths, addresses and base64 by an allow-list of formats, and keep what 16 bits hold.

transformers' `load_image` lets Pillow choose among all its formats, of which PostScript starts Ghostscript whatever
the file is called, and clips 16-bit grey at 255, which makes it white.
"""

import base64
import io
import os
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from transformers import image_utils


IMAGE_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # by Pillow's names; MPO is a JPEG


def load_image(source: str) -> Image.Image:
    """
    The image behind a path, an http address, a `data:` address or base64: upright, 8-bit RGB.

    Raises:
        `ValueError`: it is none of these, no image of `IMAGE_FORMATS`, or its numbers have no known white.
    """
    stream: Any
    if source.startswith(("http://", "https://")):
        stream = io.BytesIO(image_utils.httpx.get(source, timeout=None, follow_redirects=True).content)
    elif os.path.isfile(source):
        stream = source
    else:
        encoded = source.split(",")[1] if source.startswith("data:image/") and "," in source else source
        try:
            stream = io.BytesIO(base64.decodebytes(encoded.encode()))
        except ValueError as error:
            raise ValueError(
                f"{_short(source)} is no image: neither a file that exists, nor an address that starts with http:// "
                f"or https://, nor base64 ({error})."
            ) from error
    try:
        with Image.open(stream, formats=available_formats()) as image:
            image.load()
            return ImageOps.exif_transpose(to_8_bit(image)).convert("RGB")
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{_short(source)} is not an image in a format that is read ({', '.join(available_formats())}), whatever "
            "its name says."
        ) from error


@lru_cache
def available_formats() -> tuple[str, ...]:
    """Those of `IMAGE_FORMATS` that this build of Pillow has; it may lack AVIF."""
    Image.init()
    return tuple(name for name in IMAGE_FORMATS if name in Image.OPEN)


def is_16_bit(image: Image.Image) -> bool:
    """Whether an image of one channel holds 16 bits."""
    # Mode I holds 16 bits in PPM, which Pillow scales to 65535, and in the PNG files of its earlier versions.
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def to_8_bit(image: Image.Image) -> Image.Image:
    """
    `image`, of 16-bit grey the upper byte, as Pillow takes it of 16-bit colour; with its EXIF rotation.

    Raises:
        `ValueError`: its numbers have no known white.
    """
    check_range(image)
    if not is_16_bit(image):
        return image
    converted = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    converted.getexif().update(image.getexif())
    return converted


def check_range(image: Image.Image) -> None:
    """Raises `ValueError` for 32-bit and floating-point images, of which only their maker knows what is white."""
    if image.mode in ("I", "F") and not is_16_bit(image):
        kind = "32-bit or signed whole" if image.mode == "I" else "floating-point"
        raise ValueError(
            f"it holds {kind} numbers (Pillow's mode {image.mode}), and the file does not say which of them is white; "
            "read as 8 bit it would be white or black. Convert it to 8 or 16 bits per channel."
        )


def _short(source: str) -> str:
    return repr(source if len(source) <= 100 else f"{source[:97]}...")


__all__ = ["IMAGE_FORMATS", "available_formats", "check_range", "is_16_bit", "load_image", "to_8_bit"]
