"""Turn the image parts of a request into images, by the guarded path of training data."""

import base64
import binascii
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from transformers_llava.data.images.download import is_remote
from transformers_llava.data.images.opening import open_image
from transformers_llava.data.images.paths import resolve_image
from transformers_llava.data.schema import RecordError
from transformers_llava.generation.server.checks import RequestError


_DATA_URL = re.compile(r"data:[\w.+-]*/?[\w.+-]*(;[\w=.+-]+)*;base64,", re.IGNORECASE)


@dataclass(frozen=True)
class ImageSources:
    """Where images of a request may come from, beside the request itself."""

    allow_urls: bool = False
    image_root: Path | None = None


def image_of_part(part: dict[str, Any], sources: ImageSources) -> Image.Image:
    """
    Decode the image of an `image_url` or `input_image` part.

    Args:
        part (`dict`): `{"image_url": {"url": ...}}` or `{"image_url": ...}`: a data URL or bare base64; an http
            address or a path below `sources.image_root` only where `sources` allows them.
        sources ([`ImageSources`]): What the user who started the server has allowed.

    Raises:
        `RequestError`: there is no image, it comes from where nothing is read, or it cannot be decoded.
    """
    url = part.get("image_url")
    url = url.get("url") if isinstance(url, dict) else url
    if not isinstance(url, str) or not url.strip():
        raise RequestError("a part of type image has no image_url. Send a data URL with the image.", param="messages")
    url = url.strip()
    try:
        if is_remote(url):
            if not sources.allow_urls:
                raise RequestError(
                    f"the image {url[:100]!r} is an address, and this server fetches none. Send the image as a data "
                    "URL, or start the server with --allow_image_urls.",
                    param="messages",
                )
            return open_image({"bytes": None, "path": url})
        content = _embedded(url)
        if content is not None:
            return open_image({"bytes": content, "path": None})
        if sources.image_root is not None and "://" not in url:
            return open_image(resolve_image(url, sources.image_root))
    except RecordError as error:
        raise RequestError(str(error), param="messages") from error
    raise RequestError(
        f"the image {url[:100]!r} is neither a data URL nor base64. Files of the server are read only where it was "
        "started with --image_root, and only below that folder.",
        param="messages",
    )


def _embedded(url: str) -> bytes | None:
    """The bytes of a data URL or of bare base64; `None` for anything else."""
    match = _DATA_URL.match(url)
    encoded = url[match.end() :] if match else url
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        if match is None and not url.lower().startswith("data:"):
            return None
        raise RequestError(f"the image {url[:60]!r}... is no valid base64 ({error}).", param="messages") from error
    if not content:
        raise RequestError(f"the image {url[:60]!r} is empty.", param="messages")
    return content


__all__ = ["ImageSources", "image_of_part"]
