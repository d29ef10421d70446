"""A run record to its stages, in order, with the names that their files have in a publication."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


RUN_NAME = "run.json"  # as `training.run_record` writes it; the two rooms meet in this file


class RunRecordError(ValueError):
    """A folder was not made by a run that recorded itself, or by too old a version."""


@dataclass(frozen=True)
class Stage:
    """One stage of training: `name` is such as `1_align`, `run` its record without the stages before."""

    number: int
    run: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.number}_{self.run.get('stage') or 'train'}"

    @property
    def configuration(self) -> dict[str, Any]:
        """Every field that was in force."""
        return self.run["configuration"]


def read_run(folder: Path) -> dict[str, Any]:
    """
    The record beside a checkpoint.

    Raises:
        `RunRecordError`: there is none, or it lacks what a publication needs.
    """
    path = folder / RUN_NAME
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunRecordError(
            f"{folder.name!r} has no {RUN_NAME}, so nobody could say how it was made. Publish what `llava train` has "
            "saved."
        ) from error
    except ValueError as error:
        raise RunRecordError(f"{RUN_NAME} of {folder.name!r} is not JSON ({error}).") from error
    missing = [name for name in ("configuration", "base_models", "mixture", "environment") if not run.get(name)]
    if missing:
        raise RunRecordError(
            f"{RUN_NAME} of {folder.name!r} says nothing of {', '.join(missing)}, so the run cannot be repeated. It "
            "was written by an older version; train again with this one."
        )
    return run


def stages_of(run: dict[str, Any]) -> list[Stage]:
    """The stages of a run, the first one first."""
    runs = [*run.get("previous", []), run]
    alone = [{name: value for name, value in one.items() if name != "previous"} for one in runs]
    return [Stage(number, one) for number, one in enumerate(alone, start=1)]


__all__ = ["RUN_NAME", "RunRecordError", "Stage", "read_run", "stages_of"]
