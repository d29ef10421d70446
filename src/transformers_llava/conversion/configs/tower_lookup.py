"""Find the tower that an original's `mm_vision_tower` means, and decide whose weights count."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from transformers_llava.artifacts.digests.file_digests import commit_of_snapshot
from transformers_llava.artifacts.untrusted import read_json


logger = logging.getLogger(__name__)

_CLIP_L = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
    "projection_dim": 768,
}
# Towers of published checkpoints, so that their configuration is known without the Hub.
KNOWN_TOWERS: dict[str, dict[str, Any]] = {
    "openai/clip-vit-large-patch14": {**_CLIP_L, "image_size": 224},
    "openai/clip-vit-large-patch14-336": {**_CLIP_L, "image_size": 336},
    "google/siglip-so400m-patch14-384": {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
        "layer_norm_eps": 1e-6,
    },
}
# LLaVA-NeXT, whose constructor reads the tower from the checkpoint unless told to delay; LLaVA reads it separately.
_NEXT_TYPES = ("llava_qwen", "llava_qwen2", "llava_qwen_moe", "llava_mixtral", "llava_gemma")
_NEXT_CLASSES = ("LlavaQwen", "LlavaMixtral", "LlavaGemma")


class TowerNotFoundError(ValueError):
    """No configuration or no weights for the vision tower that a checkpoint names."""

    @classmethod
    def for_config(cls, name: str, folder: str | Path | None) -> "TowerNotFoundError":
        return cls(
            f"The vision tower mm_vision_tower={name!r} is neither an absolute folder nor one beside or inside "
            f"{folder or 'the checkpoint'}, nor a Hub repository that can be reached, so its layers are unknown. Put "
            "the folder there, or give it to `llava convert --vision_tower FOLDER`."
        )

    @classmethod
    def for_weights(cls, name: str) -> "TowerNotFoundError":
        return cls(
            f"The checkpoint has no vision tower weights and its tower {name!r} cannot be read: it is neither a "
            "folder nor a Hub repository that can be reached. Download the tower, and give its folder to `llava "
            "convert --vision_tower FOLDER`."
        )


@dataclass(frozen=True)
class Tower:
    """
    Attributes:
        location (`str`): Folder, or Hub id where there is no such folder.
        config (`dict`, *optional*): Vision configuration; `None` if it could not be found.
        is_local (`bool`): Whether `location` is a folder.
    """

    location: str
    config: dict[str, Any] | None
    is_local: bool


def resolve_tower(name: str, folder: str | Path | None = None) -> Tower:
    """
    Finds a tower by its name in a configuration.

    A folder is taken as written if absolute, else inside the checkpoint, then beside it. Then it is a Hub id.

    Args:
        name (`str`): Value of `mm_vision_tower`.
        folder (`str`, *optional*): The checkpoint's folder.
    """
    for candidate in _candidates(name, folder):
        if (candidate / "config.json").is_file():
            return Tower(str(candidate), _vision_config(read_json(candidate / "config.json")), True)
    known = KNOWN_TOWERS.get(name)
    if known is not None:
        return Tower(name, dict(known), False)
    if not name or Path(name).is_absolute():
        return Tower(name, None, False)
    try:
        return Tower(name, _vision_config(AutoConfig.from_pretrained(name).to_dict()), False)
    except (OSError, ValueError) as error:
        logger.debug("The tower %s is not on the Hub either: %s", name, error)
        return Tower(name, None, False)


def counts_tower_of_checkpoint(config_dict: dict[str, Any]) -> bool:
    """
    Whether the original uses the tower weights inside a checkpoint, where it has any.

    LLaVA ignores them and reads the separate tower, unless `unfreeze_mm_vision_tower` or `mm_tunable_parts` says that
    the tower was trained. LLaVA-NeXT uses them unless `delay_load` is set.
    """
    if config_dict.get("unfreeze_mm_vision_tower"):
        return True
    if "mm_vision_tower" in str(config_dict.get("mm_tunable_parts") or ""):
        return True
    return is_llava_next(config_dict) and not config_dict.get("delay_load", False)


def is_llava_next(config_dict: dict[str, Any]) -> bool:
    """Whether LLaVA-NeXT wrote a flat configuration: by classes and keys that only it has."""
    names = config_dict.get("architectures") or ()
    if config_dict.get("model_type") in _NEXT_TYPES or any(str(name).startswith(_NEXT_CLASSES) for name in names):
        return True
    return any(
        key in config_dict for key in ("mm_newline_position", "mm_tunable_parts", "delay_load", "use_pos_skipping")
    )


def _candidates(name: str, folder: str | Path | None) -> list[Path]:
    if not name:
        return []
    path = Path(name)
    if folder is not None and commit_of_snapshot(Path(folder)) is not None:
        # A repository does not choose a folder of this machine: only what it has itself, else a Hub id.
        return [] if path.is_absolute() or ".." in path.parts else [Path(folder) / path]
    if path.is_absolute():
        return [path]
    found = []
    if folder is not None and Path(folder).is_dir():
        found = [Path(folder) / path, Path(folder).resolve().parent / path]
    return [*found, path.absolute()]


def _vision_config(config: dict[str, Any]) -> dict[str, Any]:
    """The vision half of a whole CLIP or SigLIP; a tower's own configuration as it is."""
    vision = dict(config.get("vision_config") or config)
    vision.setdefault("model_type", f"{config.get('model_type', 'clip')}_vision_model")
    # Towers are read as parts of our model: what belongs to a file of their own would mislead there.
    for name in ("architectures", "transformers_version", "torch_dtype", "dtype", "_name_or_path"):
        vision.pop(name, None)
    return vision


__all__ = [
    "KNOWN_TOWERS",
    "Tower",
    "TowerNotFoundError",
    "counts_tower_of_checkpoint",
    "is_llava_next",
    "resolve_tower",
]
