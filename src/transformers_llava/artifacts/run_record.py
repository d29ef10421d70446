"""What was run, on what, from which data, and what came of it: `run.json` beside every checkpoint."""

import json
import logging
import math
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers_llava.artifacts.digests import combined_digest, weight_digests
from transformers_llava.artifacts.run_shape import NEEDED, check_run
from transformers_llava.artifacts.shapes import ShapeError
from transformers_llava.artifacts.tensor_digests import RepeatedTensorError, tensor_digests
from transformers_llava.artifacts.untrusted import DocumentError, checked_name, read_json


logger = logging.getLogger(__name__)

FILE_NAME = "run.json"
SCHEMA_VERSION = 1


@dataclass
class RunRecord:
    """
    The story of one training run, as plain JSON types.

    Contract: nothing in it names a machine, a person or a place. Paths are cut to their last part, so that the record
    can be published with the weights it belongs to, and two machines that do the same write the same settings.
    """

    stage: str | None
    recipe: dict[str, Any]  # what the person wrote
    configuration: dict[str, Any]  # every field as it was in force
    components: list[dict[str, Any]]
    data: dict[str, Any]
    seed: int
    versions: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    loss_history: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, str] = field(default_factory=dict)  # file -> sha256
    weights_sha256: str | None = None
    tensors: dict[str, str] = field(default_factory=dict)  # name -> sha256; the same in another layout or sharding
    command: str | None = None  # the line that a person typed
    base_models: list[dict[str, Any]] = field(default_factory=list)  # see `training.provenance`
    mixture: dict[str, Any] | None = None  # what `train_data` named, as a mixture file has it
    mixture_lock: dict[str, Any] | None = None
    chat_template: str | None = None  # the text of a template that came from a file of the person's own
    environment: dict[str, str] = field(default_factory=dict)  # every installed package
    previous: list[dict[str, Any]] = field(default_factory=list)  # records of the stages before, the first one first

    def write(self, folder: str | os.PathLike) -> Path:
        """
        Writes `run.json` into a folder, with the digests of the weight files that lie there and of their tensors.

        Returns:
            `Path`: The file.
        """
        folder = Path(folder)
        self.weights = weight_digests(folder)
        self.weights_sha256 = combined_digest(self.weights)
        self.tensors = _tensor_digests(folder)
        values = without_places({"schema_version": SCHEMA_VERSION, **asdict(self)})
        values = numbers_of_json(values)
        path = folder / FILE_NAME
        unfinished = path.with_suffix(".json.part")
        text = json.dumps(values, indent=2, ensure_ascii=False, default=str, allow_nan=False) + "\n"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)  # a reader sees the old record or the new one, never half of one
        return path


def _tensor_digests(folder: Path) -> dict[str, str]:
    """Of every tensor; without one where the folder is not of one checkpoint: a run must not end for its record."""
    try:
        return tensor_digests(folder)
    except RepeatedTensorError as error:
        logger.warning("run.json has no digests of tensors, so `llava verify` compares files alone: %s", error)
        return {}


def numbers_of_json(value: Any) -> Any:
    """
    JSON has no word for NaN and infinity: `null` stands in their place, and `not_finite` beside it says which it was.

    ```python
    >>> numbers_of_json({"step": 3, "loss": math.nan})
    {'step': 3, 'loss': None, 'not_finite': {'loss': 'nan'}}
    ```
    """
    if isinstance(value, dict):
        named = {key: str(one) for key, one in value.items() if _is_no_number(one)}
        plain = {key: numbers_of_json(one) for key, one in value.items()}
        return {**plain, "not_finite": named} if named else plain
    if isinstance(value, list | tuple):
        return [numbers_of_json(one) for one in value]
    return None if _is_no_number(value) else value


def _is_no_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def read_run_record(folder: str | os.PathLike) -> dict[str, Any]:
    """The record beside a checkpoint, as written."""
    return json.loads((Path(folder) / FILE_NAME).read_text(encoding="utf-8"))


def without_places(value: Any) -> Any:
    """
    JSON values with every absolute path cut to its last part, also in the middle of a sentence.

    ```python
    >>> without_places({"path": "/home/me/data/train.json", "text": "file '/data/a.jpg' is empty", "rate": "1/2"})
    {'path': 'train.json', 'text': "file 'a.jpg' is empty", 'rate': '1/2'}
    ```
    """
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(item) for item in value]
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        return value
    if (os.path.isabs(value) or value.startswith("~")) and "\n" not in value:
        return last_part(value)
    value = _QUOTED_PATH.sub(lambda match: match[1] + last_part(match[2]) + match[1], value)
    return _ABSOLUTE_PATH.sub(lambda match: last_part(match.group()), value)


def last_part(path: str) -> str:
    """The name of a file or folder; `~` for a user's own folder, whose name is the user's."""
    is_home = _HOME.fullmatch(path.rstrip("/")) is not None or path.rstrip("/") == str(Path.home())
    return "~" if is_home else Path(path).name


_HOMES = r"/(?:home|Users|export/home)"
_HOME = re.compile(rf"~|/root|{_HOMES}/[^/]+")
# A folder may have spaces in its name ('/Users/john smith/x'): words are one part of a path if a slash follows.
_WORD = r"[\w.+@%=-]+"
_PART = rf"(?:{_WORD}(?: {_WORD}){{0,4}}(?=/)|{_WORD})"
# Two or more parts behind a slash that starts a word: '/data/a.jpg'; not 'and/or', 'https://host/page', '</s>'.
_ABSOLUTE_PATH = re.compile(rf"(?<![\w/.:<~\\])~?(?:/{_PART}){{2,}}")
_QUOTED_PATH = re.compile(r"""(['"`])(~?/(?:(?!\1)[^/\n])+/(?:(?!\1)[^\n])*)\1""")  # whatever is in it


RUN_NAME = "run.json"  # as `artifacts.run_record` writes it; the two rooms meet in this file


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


__all__ = [
    "FILE_NAME",
    "RUN_NAME",
    "RunRecord",
    "RunRecordError",
    "SCHEMA_VERSION",
    "Stage",
    "last_part",
    "numbers_of_json",
    "read_run",
    "read_run_record",
    "stages_of",
    "without_places",
]
