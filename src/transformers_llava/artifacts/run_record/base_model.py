"""Describe the base models that a stage of training starts from: role, name, revision and digest of each."""

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
        role (`str`): Which part of the trained model it is: `checkpoint` for the whole, `language_model` or
            `vision_tower`.
        name (`str`): The repository id on the Hub, or the last part of a local path.
        origin (`str`, *optional*, defaults to `"folder"`): `hub` if `name` is a repository id, else `folder`.
        revision (`str`, *optional*): The commit on the Hub, where known.
        digest (`str`, *optional*): SHA-256 over its weight files, see [`weights_digest`].
    """

    role: Role
    name: str
    origin: Literal["hub", "folder"] = "folder"
    revision: str | None = None
    digest: str | None = None


__all__ = ["ROLES", "ROLE_FIELDS", "BaseModel", "Role"]
