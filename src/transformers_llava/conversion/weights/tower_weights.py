"""Find the weights of a vision tower that a checkpoint names or carries."""

import logging
from collections.abc import Iterable
from pathlib import Path

from transformers_llava.artifacts.snapshots import local_folder
from transformers_llava.conversion.configs.tower_lookup import TowerNotFoundError
from transformers_llava.conversion.weights.tensor_files import weight_files


logger = logging.getLogger(__name__)


def tower_files(name: str) -> list[Path]:
    """
    The weight files of a tower: a folder, or a Hub repository.

    Raises:
        TowerNotFoundError: If there are none.
    """
    folder = local_folder(name, with_weights=True)
    try:
        if folder is not None:
            return weight_files(folder)
    except ValueError as error:
        logger.debug("%s", error)
    raise TowerNotFoundError.for_weights(name)


def tower_keys(keys: Iterable[str]) -> dict[str, str]:
    """Keys of a tower's own files to names inside `vision_tower`; the text half of a whole CLIP is left out."""
    keys = list(keys)
    inside = [key for key in keys if key.startswith("vision_model.")]
    if inside:
        return {key: key.removeprefix("vision_model.") for key in inside}
    return {
        key: key for key in keys if key.startswith(("embeddings.", "pre_layrnorm.", "encoder.", "post_layernorm."))
    }


__all__ = ["tower_files", "tower_keys"]
