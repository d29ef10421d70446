"""Read a run record, check every field of it, and give its stages the names that their files have in a publication."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers_llava.artifacts.untrusted import DocumentError, checked_name, read_json
from transformers_llava.hub.run_shape import NEEDED, check_run
from transformers_llava.hub.shapes import ShapeError


RUN_NAME = "run.json"  # as `training.run_record` writes it; the two rooms meet in this file


class RunRecordError(ValueError):
    """A folder was not made by a run that recorded itself, by too old a version, or its record is malformed."""


@dataclass(frozen=True)
class Stage:
    """One stage of training: `name` is such as `1_align`, `run` its record without the stages before."""

    number: int
    run: dict[str, Any]

    @property
    def name(self) -> str:
        """Safe as a part of a path, whoever wrote the record."""
        try:
            return f"{self.number}_{checked_name(self.run.get('stage') or 'train', 'the name of a stage')}"
        except DocumentError as error:
            raise RunRecordError(str(error)) from error

    @property
    def configuration(self) -> dict[str, Any]:
        """Every field that was in force."""
        return self.run["configuration"]


def read_run(folder: Path) -> dict[str, Any]:
    """
    The record beside a checkpoint, with every field checked that anybody here reads.

    Raises:
        `RunRecordError`: there is none, it lacks what a publication needs, or a field holds what it must not.
    """
    path = folder / RUN_NAME
    try:
        run = read_json(path)
    except FileNotFoundError as error:
        raise RunRecordError(
            f"{folder.name!r} has no {RUN_NAME}, so nobody could say how it was made. Publish what `llava train` has "
            "saved."
        ) from error
    except DocumentError as error:
        raise RunRecordError(f"{RUN_NAME} of {folder.name!r} cannot be read: {error}") from error
    missing = [name for name in NEEDED if not run.get(name)]
    if missing:
        raise RunRecordError(
            f"{RUN_NAME} of {folder.name!r} says nothing of {', '.join(missing)}, so the run cannot be repeated. It "
            "was written by an older version; train again with this one."
        )
    try:
        check_run(run)
    except ShapeError as error:
        raise RunRecordError(
            f"{RUN_NAME} of {folder.name!r} is malformed: {error} Nothing of it is used; `llava train` writes no such "
            "record."
        ) from error
    return run


def stages_of(run: dict[str, Any]) -> list[Stage]:
    """The stages of a run, the first one first."""
    runs = [*run.get("previous", []), run]
    alone = [{name: value for name, value in one.items() if name != "previous"} for one in runs]
    return [Stage(number, one) for number, one in enumerate(alone, start=1)]


__all__ = ["RUN_NAME", "RunRecordError", "Stage", "read_run", "stages_of"]
