"""A recipe to what its result is made of: base models by content, mixture, the stages before; and their places."""

import json
import os
import re
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from transformers_llava.artifacts.digests import commit_of_snapshot
from transformers_llava.artifacts.environment_variables import COMMAND_VARIABLE
from transformers_llava.artifacts.local_paths import PLACES_NAME
from transformers_llava.artifacts.run_record.base_model import ROLE_FIELDS
from transformers_llava.artifacts.run_record.mixture_sources import Mixture
from transformers_llava.artifacts.run_record.portable_values import last_part
from transformers_llava.artifacts.run_record.run_stages import RunRecord, Stage
from transformers_llava.artifacts.untrusted import read_json
from transformers_llava.data.mixture.config import SourceConfig
from transformers_llava.data.records.readers import HUB_SCHEME
from transformers_llava.training.environment import installed_packages
from transformers_llava.training.recipe.configs import ModelConfig
from transformers_llava.training.recipe.resolve import ResolvedRecipe, base_models, previous_stages


# In the checkpoint's folder, for this machine alone: the Hub's client never uploads this sub-folder, nor does git.
_DOWNLOADS = ".cache/huggingface/download"  # what the client leaves in a folder that it has fetched


def complete_record(stage: Stage, resolved: ResolvedRecipe, lock: dict[str, Any] | None) -> RunRecord:
    """The record of a run whose last stage is this one, with what somebody else needs to do the same again."""
    model = resolved.recipe.model
    before = previous_stages(model)
    return RunRecord((*before, replace(stage, number=len(before) + 1))).with_own(
        command=os.environ.get(COMMAND_VARIABLE),
        base_models=base_models(model),
        mixture=published_mixture(resolved),
        mixture_lock=lock,
        environment=installed_packages(),
        chat_template=resolved.own_chat_template,
    )


def published_mixture(resolved: ResolvedRecipe) -> Mixture:
    """
    The mixture of a recipe with paths that mean the same everywhere: as its file has them, from the data root on; of
    anything else on this disk `<source>/<file>`.

    Contract: every path stays inside the folder it is put into, has no hidden part, and stands for one file or folder
    in all stages that are known here; `hub.publication.bundled_data` copies to these paths.
    """
    mixture = resolved.mixture.to_dict()
    taken = _places_by_path(resolved.recipe.model)
    for source in mixture["sources"]:
        for name in ("path", "image_root"):
            if source.get(name) and not _is_on_hub(source[name]):
                source[name] = _portable(Path(source[name]), source["name"], resolved.data_root, taken)
    return Mixture.from_dict(mixture)


def write_places(resolved: ResolvedRecipe, folder: Path) -> Path:
    """
    Notes where the parts of a run lie on this machine, so that `llava publish --self_contained` and `llava verify`
    find them. Neither a publication nor `hf upload` nor git takes it along.
    """
    model = resolved.recipe.model
    places: dict[str, Any] = {
        "sources": {source.name: _places_of_source(source) for source in resolved.mixture.sources},
        "base_models": {
            role: os.path.abspath(name)
            for role, (field, _) in ROLE_FIELDS.items()
            if (name := getattr(model, field)) is not None and Path(name).is_dir()
        },
        "previous": previous_places(model),
    }
    path = folder / PLACES_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / ".gitignore").write_text("*\n", encoding="utf-8")
    path.write_text(json.dumps(places, indent=2) + "\n", encoding="utf-8")
    return path


def _places_of_source(source: SourceConfig) -> dict[str, str]:
    given = {"path": source.path, "image_root": source.image_root}
    return {name: os.path.abspath(value) for name, value in given.items() if value and not _is_on_hub(value)}


def previous_places(config: ModelConfig) -> list[dict[str, Any]]:
    """
    What the stages before have noted with `write_places`, the first one first; empty for a checkpoint that came from
    somewhere else: a note in it names files of this machine that its author would like to have published.
    """
    if config.model_name_or_path is None or not Path(config.model_name_or_path).is_dir():
        return []
    folder = Path(config.model_name_or_path)
    is_downloaded = (folder / _DOWNLOADS).exists() or commit_of_snapshot(folder.resolve()) is not None
    if is_downloaded or not (folder / PLACES_NAME).is_file():
        return []
    last = read_json(folder / PLACES_NAME)
    return [*last.pop("previous", []), last]


def _places_by_path(config: ModelConfig) -> dict[str, str]:
    """Paths in the records of the stages before -> where they are on this machine."""
    places: dict[str, str] = {}
    for stage, noted in zip(previous_stages(config), previous_places(config), strict=False):
        for source in stage.sources:
            here = noted.get("sources", {}).get(source.name, {})
            places |= {path: here[name] for name, path in source.paths.items() if name in here}
    return places


def _portable(path: Path, source: str, root: Path | None, taken: dict[str, str]) -> str:
    """
    A path for a file or folder that is not yet that of another one; noted in `taken`.

    ```python
    >>> taken = {}
    >>> _portable(Path("/d/a/train.json"), "toys", Path("/d"), taken)
    'a/train.json'
    >>> _portable(Path("/d/../home/me/train.json"), "toys", Path("/d"), taken)
    'toys/train.json'
    >>> _portable(Path("/d/b/train.json"), "toys", None, taken)
    'toys/train_2.json'
    ```
    """
    here = os.path.abspath(path)
    name = last_part(here).lstrip(".~") or "data"
    folder = re.sub(r"[^\w.-]+", "_", source).strip("._") or "source"
    stem, dot, suffix = name.partition(".")
    wanted = [f"{folder}/{name}"]
    if root is not None and Path(here).is_relative_to(os.path.abspath(root)):
        inside = Path(here).relative_to(os.path.abspath(root))
        if inside.parts and not any(part.startswith(".") for part in inside.parts):
            wanted.insert(0, inside.as_posix())
    more = (f"{folder}/{stem}_{number}{dot}{suffix}" for number in count(2))
    found = next(one for one in chain(wanted, more) if taken.get(one, here) == here)
    taken[found] = here
    return found


def _is_on_hub(value: str) -> bool:
    return value.startswith(HUB_SCHEME)


__all__ = ["PLACES_NAME", "complete_record", "previous_places", "published_mixture", "write_places"]
