"""Record what a run is made of: base models by content, the mixture, the stages before, and their local paths."""

import os
import re
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from transformers_llava.artifacts.environment_variables import COMMAND_VARIABLE
from transformers_llava.artifacts.local_paths import LocalPaths, read_own_local_paths
from transformers_llava.artifacts.run_record.base_model import ROLE_FIELDS
from transformers_llava.artifacts.run_record.mixture_sources import Mixture
from transformers_llava.artifacts.run_record.portable_values import last_part
from transformers_llava.artifacts.run_record.run_stages import RunRecord, Stage
from transformers_llava.data.mixture.config import SourceConfig
from transformers_llava.data.records.readers import HUB_SCHEME
from transformers_llava.training.environment import installed_packages
from transformers_llava.training.recipe.configs import ModelConfig
from transformers_llava.training.recipe.resolve import ResolvedRecipe, base_models, previous_stages


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
    taken = _recorded_paths(resolved.recipe.model)
    for source in mixture["sources"]:
        for name in ("path", "image_root"):
            if source.get(name) and not _is_on_hub(source[name]):
                source[name] = _portable(Path(source[name]), source["name"], resolved.data_root, taken)
    return Mixture.from_dict(mixture)


def local_paths_of(resolved: ResolvedRecipe) -> list[LocalPaths]:
    """Where the parts of a run lie on this machine, those of the stages before first."""
    model = resolved.recipe.model
    names = {role: getattr(model, name_field) for role, (name_field, _) in ROLE_FIELDS.items()}
    own = LocalPaths(
        sources={source.name: _paths_of_source(source) for source in resolved.mixture.sources},
        base_models={role: os.path.abspath(name) for role, name in names.items() if name and Path(name).is_dir()},
    )
    return [*previous_local_paths(model), own]


def _paths_of_source(source: SourceConfig) -> dict[str, str]:
    given = {"path": source.path, "image_root": source.image_root}
    return {name: os.path.abspath(value) for name, value in given.items() if value and not _is_on_hub(value)}


def previous_local_paths(config: ModelConfig) -> list[LocalPaths]:
    """What the stages before have noted, the first one first; empty for a checkpoint that was not made here."""
    name = config.model_name_or_path
    return [] if name is None or not Path(name).is_dir() else read_own_local_paths(Path(name))


def _recorded_paths(config: ModelConfig) -> dict[str, str]:
    """Paths in the records of the stages before -> where they are on this machine."""
    paths: dict[str, str] = {}
    for stage, noted in zip(previous_stages(config), previous_local_paths(config), strict=False):
        for source in stage.sources:
            here = noted.sources.get(source.name, {})
            paths |= {path: here[name] for name, path in source.paths.items() if name in here}
    return paths


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


__all__ = ["complete_record", "local_paths_of", "previous_local_paths", "published_mixture"]
