"""A folder or Hub id to a folder that can be read."""

import logging
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError


logger = logging.getLogger(__name__)

_SMALL_FILES = ("*.json", "*.jinja", "*.txt", "tokenizer.model")


def local_folder(
    name: Any, revision: str | None = None, token: Any = None, *, with_weights: bool = False
) -> Path | None:
    """
    The folder itself, or the local copy of a Hub repository; `None` if it is neither or cannot be reached.

    Args:
        with_weights (`bool`, *optional*, defaults to `False`): Also fetch weights, safetensors where there are any;
            else only the small files.
    """
    if name is None:
        return None
    if Path(name).is_dir():
        return Path(name)
    folder = None
    for weights in ("*.safetensors", "*.bin") if with_weights else (None,):
        patterns = [*_SMALL_FILES, *([weights] if weights else [])]
        try:
            folder = Path(snapshot_download(str(name), revision=revision, token=token, allow_patterns=patterns))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            logger.debug("%s is no folder and could not be fetched from the Hub: %s", name, error)
            return None
        if weights is None or any(folder.glob(weights)):
            break
    return folder


__all__ = ["local_folder"]
