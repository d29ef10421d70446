"""Describe what a stage of training starts from: base models, each with its role, address and content."""

from dataclasses import dataclass
from typing import Literal

from transformers_llava.artifacts.run_record.recorded import Recorded


Role = Literal["checkpoint", "language_model", "vision_tower"]

# Role -> the fields of a recipe that name the model and its commit.
ROLE_FIELDS: dict[Role, tuple[str, str]] = {
    "checkpoint": ("model_name_or_path", "model_revision"),
    "language_model": ("language_model_name_or_path", "language_model_revision"),
    "vision_tower": ("vision_tower_name_or_path", "vision_tower_revision"),
}
ROLES: tuple[Role, ...] = tuple(ROLE_FIELDS)


@dataclass(frozen=True)
class BaseModel(Recorded):
    """
    A model that a stage started from.

    Args:
        role (`str`): What it became: the whole checkpoint, the language model or the vision tower.
        name (`str`): Its id on the Hub, or the last part of its folder.
        origin (`str`): `hub` or `folder`: whether the name is an address.
        revision (`str`, *optional*): The commit on the Hub, where known.
        digest (`str`, *optional*): Of its weights, see [`weights_digest`].
    """

    role: Role
    name: str
    origin: Literal["hub", "folder"] = "folder"
    revision: str | None = None
    digest: str | None = None


__all__ = ["ROLES", "ROLE_FIELDS", "BaseModel", "Role"]
