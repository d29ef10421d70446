"""Find the data that a publication's mixture names: in the publication, or below a folder that the user named."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from transformers_llava.artifacts.limits import MAX_SOURCE_REPEATS
from transformers_llava.artifacts.run_record.mixture_sources import Mixture, MixtureSource
from transformers_llava.artifacts.untrusted import DocumentError
from transformers_llava.data.mixture.config import MixtureConfig
from transformers_llava.data.records.readers import HUB_SCHEME
from transformers_llava.hub.recipe_folder import DATA_FOLDER, RECIPE_FOLDER
from transformers_llava.hub.verification.present_files import PresentFiles


@dataclass(frozen=True)
class DataPaths:
    """
    Where data may be read from.

    Args:
        recipe (`Path`): `recipe/` of the publication.
        present (`PresentFiles`): What lies in the publication.
        data_root (`Path`, *optional*): The user's own folder, for data that the publication does not hold.
        allow_remote_data (`bool`): Addresses in the mixture are read: `hf://`, and `remote_images: fetch`.
        allow_dataset_folders (`bool`): Folders in the publication are read by `datasets`, which opens what their own
            files name.
    """

    recipe: Path
    present: PresentFiles
    data_root: Path | None = None
    allow_remote_data: bool = False
    allow_dataset_folders: bool = False


def locate_mixture(mixture: Mixture, paths: DataPaths) -> tuple[MixtureConfig, list[str]]:
    """
    A stage's mixture with paths of this machine, and what of it cannot be read here or may not be.

    Args:
        mixture (`Mixture`): With paths that start in `recipe/`, see `hub.recipe_folder.mixture_of`.
        paths (`DataPaths`): Where data may be read from.

    Raises:
        `DocumentError`: it names a path outside of its data.
        `ValueError`: a source has a field that cannot be used.
    """
    values = mixture.to_dict()
    not_here: list[str] = []
    located: list[Any] = [_locate(source, paths, not_here) for source in mixture.sources]
    return MixtureConfig(located, seed=values.get("seed", 0), row_order=values.get("row_order", "file")), not_here


def _locate(source: MixtureSource, paths: DataPaths, not_here: list[str]) -> dict[str, Any]:
    located = source.to_dict()
    name, weight = source.name, located.get("weight")
    if weight is not None and (not isinstance(weight, int | float) or not 0 < weight <= MAX_SOURCE_REPEATS):
        raise DocumentError(f"source {name!r} has the weight {weight!r}; at most {MAX_SOURCE_REPEATS} is drawn here.")
    if source.remote_images != "refuse" and not paths.allow_remote_data:
        not_here.append(f"source {name!r} fetches images by their addresses; --allow_remote_data does so")
    for field, value in source.paths.items():
        if value.startswith(HUB_SCHEME):
            if not paths.allow_remote_data:
                not_here.append(f"source {name!r} lies at {value}; --allow_remote_data reads it there")
            continue
        located[field] = str(_place(value, f"`{field}` of source {name!r}", field == "path", paths, not_here))
    return located


def _place(value: Any, what: str, is_data: bool, paths: DataPaths, not_here: list[str]) -> Path:
    """A path below `data/`, inside the publication where that holds it, else below the user's folder."""
    is_plain = isinstance(value, str) and "://" not in value and not re.search(r"[\x00-\x1f\\]", value)
    parts = PurePosixPath(value).parts if is_plain else ()
    if not parts or parts[0] != DATA_FOLDER or ".." in parts:
        raise DocumentError(f"{what} is {str(value)[:80]!r}, which is no path below {DATA_FOLDER}/. It is not opened.")
    name = "/".join((RECIPE_FOLDER, *parts))
    if paths.present.holds(name):
        if is_data and name in paths.present.folders and not paths.allow_dataset_folders:
            not_here.append(
                f"{what} is a folder, and `datasets` opens whatever the files in it name; --allow_dataset_folders "
                "reads it"
            )
        return paths.recipe.joinpath(*parts)
    below = Path(*parts[1:])
    found = (paths.data_root or paths.recipe / DATA_FOLDER) / below
    if paths.data_root is None or not found.exists():
        not_here.append(f"not here: {below.name}; name it with --data_root")
    return found


__all__ = ["DataPaths", "locate_mixture"]
