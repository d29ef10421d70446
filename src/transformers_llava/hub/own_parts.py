"""Data and base models that have no address on the Hub to their copies inside a publication."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from transformers_llava.hub.recipe_folder import BASES_FOLDER, DATA_FOLDER, RECIPE_FOLDER, image_archive
from transformers_llava.hub.stages import stages_of


PLACES_NAME = ".cache/huggingface/places.json"  # as `training.origins` writes it, for this machine alone
_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
_NOT_OF_A_MODEL = {"optimizer.pt", "scheduler.pt"}


class MissingPartError(ValueError):
    """A part that was to go into the publication is not on this machine any more."""


def read_places(checkpoint: Path) -> list[dict[str, Any]]:
    """Where each stage's data and base models lie on this machine, the first stage first; empty if nobody noted it."""
    path = checkpoint / PLACES_NAME
    if not path.is_file():
        return []
    last = json.loads(path.read_text(encoding="utf-8"))
    return [*last.pop("previous", []), last]


def copy_own_parts(run: dict[str, Any], checkpoint: Path, folder: Path) -> list[Path]:
    """
    Copies into `recipe/` what a stranger could not get elsewhere, so that the publication is enough to train again.

    Data files go there as they are; the pictures of a folder into one archive without compression and without times,
    so that the same pictures give the same file.

    Args:
        run (`dict`): The run record.
        checkpoint (`Path`): With its note of places.
        folder (`Path`): The publication.

    Raises:
        `MissingPartError`: something is not where it was.
    """
    places, stages = read_places(checkpoint), stages_of(run)
    if len(places) != len(stages):
        raise MissingPartError(
            f"{checkpoint.name!r} notes the places of {len(places)} of its {len(stages)} stages ({PLACES_NAME}), so "
            "data and base models cannot be found. Publish where it was trained, or without --self_contained."
        )
    target = folder / RECIPE_FOLDER
    copied: list[Path] = []
    for stage, here in zip(stages, places, strict=True):
        for source in stage.run["mixture"]["sources"]:
            copied += _copy_source(source, here["sources"].get(source["name"], {}), target)
        for base in stage.run["base_models"]:
            if base["origin"] == "folder" and not (base["role"] == "checkpoint" and stage.number > 1):
                copied += _copy_base(base["role"], here["base_models"].get(base["role"]), target)
    return copied


def _copy_source(source: dict[str, Any], here: dict[str, str], target: Path) -> list[Path]:
    if "path" not in here:
        return []  # on the Hub
    data, wanted = Path(here["path"]), target / DATA_FOLDER / source["path"]
    copied = _copy(data, wanted, f"the data of source {source['name']!r}")
    root = Path(here["image_root"]) if "image_root" in here else data.parent
    if root.is_file():
        return [*copied, *_copy(root, target / DATA_FOLDER / source["image_root"], f"pictures of {source['name']!r}")]
    archive = target / image_archive(source)
    pictures = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in _PICTURES]
    if not pictures or archive.exists():
        return copied
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for path in pictures:
            entry = zipfile.ZipInfo(path.relative_to(root).as_posix())  # dated 1980
            entry.external_attr = 0o644 << 16
            file.writestr(entry, path.read_bytes())
    return [*copied, archive]


def _copy_base(role: str, here: str | None, target: Path) -> list[Path]:
    if here is None:
        raise MissingPartError(
            f"it is not noted where the {role} lies on this machine. Publish without --self_contained."
        )
    copied = []
    for path in sorted(Path(here).glob("*")):
        if path.is_file() and path.name not in _NOT_OF_A_MODEL:
            copied += _copy(path, target / BASES_FOLDER / role / path.name, f"the {role}")
    if not copied:
        raise MissingPartError(f"the {role} is not at {here!r} any more. Put it back, or leave out --self_contained.")
    return copied


def _copy(path: Path, target: Path, what: str) -> list[Path]:
    if target.exists():
        return []
    if not path.exists():
        raise MissingPartError(
            f"{what}: {str(path)!r} is not there any more. Put it back, or leave out --self_contained."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, target)
        return [file for file in sorted(target.rglob("*")) if file.is_file()]
    shutil.copyfile(path, target)
    return [target]


__all__ = ["PLACES_NAME", "MissingPartError", "copy_own_parts", "read_places"]
