"""Describe a task: which questions, from where, asked and scored how under each of the two protocols."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, get_args

from transformers_llava.artifacts.evaluation_files.predictions import DecodingValue
from transformers_llava.artifacts.untrusted import read_yaml
from transformers_llava.evaluation.scoring.verdicts import Protocol
from transformers_llava.packaged import file_or_packaged, list_packaged


ScoredWhere = Literal["here", "server", "judge"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)


class TaskError(ValueError):
    """A task file cannot be used; names the file and what is wrong in it."""


@dataclass(frozen=True)
class TaskProtocol:
    """
    How a task is asked and scored under one protocol.

    Args:
        version (`str`): Repository and commit whose rule it is; printed beside every number.
        name (`str`): Script or task there.
        hub (`str` or `None`): Data set of the Hub that lmms-eval reads. Its owner has changed before: pin a revision.
        split (`str` or `None`): Of that data set.
        instruction (`str`): Closing instruction, for the reader; what is asked is what `prompts` writes.
        decoding (`Mapping`): What `generate` is given.
        scorer (`str` or `None`): Name in `scorers`; `None` where only a server or judge scores.
        headline (`str` or `None`): The score that papers report.
        scored (`str`): `here`, or by whom else.
        note (`str`): What must be known about the number.
        submission (`str` or `None`): Name of the file that is handed in.
    """

    version: str
    name: str
    hub: str | None
    split: str | None
    instruction: str
    decoding: Mapping[str, DecodingValue]
    scorer: str | None
    headline: str | None
    scored: ScoredWhere
    note: str
    submission: str | None


@dataclass(frozen=True)
class Task:
    """
    One benchmark, as a file of `tasks/` states it.

    Args:
        name (`str`): Of the file, such as `pope`.
        title (`str`): As papers call it.
        num_questions (`int`): Of the published question file.
        license (`str`): Of questions and annotations as their authors state it; `other` for terms of their own.
        source (`tuple[str, ...]`): Where a user gets the files.
        revision (`str`): Of the instructions that lay them out.
        folder (`str`): Below `playground/data/eval`.
        questions (`str`): File in it.
        annotations (`str` or `None`): File or folder in it with the right answers.
        images (`str` or `None`): Folder in it; `None` where the question file holds them.
        all_questions (`str` or `None`): File with the questions that an upload must list, where those are more.
        protocols (`Mapping`): `llava-1.5` and `lmms-eval`.
    """

    name: str
    title: str
    num_questions: int
    license: str
    source: tuple[str, ...]
    revision: str
    folder: str
    questions: str
    annotations: str | None
    images: str | None
    all_questions: str | None
    protocols: Mapping[Protocol, TaskProtocol]

    def protocol(self, name: str) -> TaskProtocol:
        """
        One of the two.

        Raises:
            `TaskError`: There is no such protocol.
        """
        return self.protocols[protocol_named(name)]


def protocol_named(name: str) -> Protocol:
    """
    One of the two protocols.

    Raises:
        `TaskError`: There is no such protocol.
    """
    for known in PROTOCOLS:
        if name == known:
            return known
    raise TaskError(
        f"there is no protocol {name!r}, so it is not known how to ask. There are: {', '.join(PROTOCOLS)}; numbers of "
        "the two cannot be compared."
    )


def load_task(name_or_file: str) -> Task:
    """
    Read a task by its packaged name, or from a file of a user's own.

    Raises:
        `PackagedFileError`: There is neither; offers the nearest name.
        `TaskError`: The file lacks a field, has one too many, or a value of another kind.

    Example:

        >>> load_task("pope").protocol("llava-1.5").headline
        'f1'
    """
    path = file_or_packaged("task", name_or_file)
    document = read_yaml(path)
    protocols = document.pop("protocols", None)
    if not isinstance(protocols, dict) or set(protocols) != set(PROTOCOLS):
        raise TaskError(f"'{path}' does not describe exactly the protocols {', '.join(PROTOCOLS)}.")
    read = {name: _protocol(protocols[name], f"'{path}', {name},") for name in PROTOCOLS}
    _check(document, Task, {"name", "protocols"}, f"'{path}'")
    source = document.pop("source")
    if not all(isinstance(line, str) for line in source):
        raise TaskError(f"'{path}' has a `source` that is no list of texts.")
    return Task(name=path.stem, source=tuple(source), protocols=MappingProxyType(read), **document)


def load_tasks(names: str) -> tuple[Task, ...]:
    """The tasks of a list with commas; `all` are all packaged ones."""
    packaged = list_packaged("task")
    chosen = packaged if names == "all" else [name.strip() for name in names.split(",") if name.strip()]
    if not chosen:
        raise TaskError(f"no task is named in {names!r}. Packaged are: {', '.join(packaged)}.")
    return tuple(load_task(name) for name in chosen)


def _protocol(document: Any, place: str) -> TaskProtocol:
    if not isinstance(document, dict):
        raise TaskError(f"{place} is {document!r} where a mapping is expected.")
    _check(document, TaskProtocol, set(), place)
    if document["scored"] not in get_args(ScoredWhere):
        raise TaskError(f"{place} is scored {document['scored']!r}; it must be {', '.join(get_args(ScoredWhere))}.")
    if (document["scored"] == "here") != (document["scorer"] is not None):
        raise TaskError(f"{place} needs a scorer if it is scored here, and none else.")
    decoding = MappingProxyType(document.pop("decoding"))
    return TaskProtocol(decoding=decoding, **document)


# What stands in a field: the annotations of the dataclasses in words that `isinstance` takes.
_KINDS: dict[str, tuple[type, ...]] = {
    "num_questions": (int,),
    "source": (list,),
    "decoding": (dict,),
    **dict.fromkeys(
        ("annotations", "images", "all_questions", "hub", "split", "scorer", "headline", "submission"),
        (str, type(None)),
    ),
}


def _check(document: dict[str, Any], kind: type, added: set[str], place: str) -> None:
    expected = {field.name for field in fields(kind)} - added
    if document.keys() != expected:
        lacking, foreign = sorted(expected - document.keys()), sorted(map(str, document.keys() - expected))
        raise TaskError(
            f"{place} lacks {lacking} and has {foreign} too many. Fields are: {', '.join(sorted(expected))}."
        )
    for name, value in document.items():
        if not isinstance(value, _KINDS.get(name, (str,))) or isinstance(value, bool):
            raise TaskError(f"{place} has {value!r} as `{name}`, which is not what stands there.")


__all__ = [
    "PROTOCOLS",
    "ScoredWhere",
    "Task",
    "TaskError",
    "TaskProtocol",
    "load_task",
    "load_tasks",
    "protocol_named",
]
