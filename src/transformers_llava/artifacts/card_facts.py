"""Read `card.yaml`: the facts about a model that only a user can state."""

import logging
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from transformers_llava.artifacts.untrusted import DocumentError, read_yaml


FACTS_NAME = "card.yaml"  # beside a checkpoint, and in a publication

logger = logging.getLogger(__name__)


class CardFactsError(ValueError):
    """A `card.yaml` that cannot be used: no YAML, or a field that would have no effect."""


@dataclass(frozen=True)
class CardFacts:
    """
    What a run does not know of itself.

    Args:
        title (`str`, *optional*): Heading of the card; the name of the repository by default.
        summary (`str`, *optional*): What it is, in one paragraph.
        intended_use, out_of_scope, limitations (`str`, *optional*): In a user's words.
        contact (`str`, *optional*): Where to ask.
        language (`list[str]`): ISO codes.
        tags (`list[str]`): More words for the Hub's search.
        prompt (`str`): The question in the usage example.
        hardware, time (`str`, *optional*): In place of the recorded ones, for a model that was not trained here.
        evaluation (`list[dict]`): Results with `task`, `metric`, `value`, and whose they are: `measured_by`, `source`.
        licenses (`dict`): Component, its role, or source -> {license, evidence}: for parts that state none themselves.
            In the file a license alone does as well (`language_model: MIT`), and the old spelling of these names.
        citations (`list[str]`): BibTeX.
        notes (`list[str]`): What else a reader must know, such as that the weights are not ours.
        usage (`str`, *optional*): In place of the usual lines, for what is no whole model.
        recipes (`list[str]`): Packaged recipes that say how a model was trained of which there is no run record.
        layout (`str`): Of such a model.
        base_model_relation (`str`, *optional*): What its weights are of the base models, where they are no `finetune`.
        own_settings (`list[str]`): Settings of those recipes that are ours, and not of whoever trained the model.
        own_settings_note (`str`, *optional*): What is known of theirs.
    """

    title: str | None = None
    summary: str | None = None
    intended_use: str | None = None
    out_of_scope: str | None = None
    limitations: str | None = None
    contact: str | None = None
    language: list[str] = field(default_factory=lambda: ["en"])
    tags: list[str] = field(default_factory=list)
    prompt: str = "What is in this image?"
    hardware: str | None = None
    time: str | None = None
    evaluation: list[dict[str, Any]] = field(default_factory=list)
    licenses: dict[str, dict[str, str]] = field(default_factory=dict)
    citations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    usage: str | None = None
    recipes: list[str] = field(default_factory=list)
    layout: Literal["builtin", "open_llava"] = "builtin"
    base_model_relation: Literal["adapter", "merge", "quantized", "finetune"] | None = None
    own_settings: list[str] = field(default_factory=list)
    own_settings_note: str | None = None


def read_card_facts(path: str | Path) -> CardFacts:
    """
    Raises:
        `CardFactsError`: with the file and the field.
    """
    path = Path(path)
    try:
        values = read_yaml(path, kind=(dict, type(None))) or {}
    except (DocumentError, FileNotFoundError) as error:
        raise CardFactsError(f"the facts of the card cannot be read: {error}") from error
    values = _one_spelling(values, _OLD_LICENSES, "licenses", repr(path.name))
    known = {one.name: one for one in fields(CardFacts)}
    if unknown := sorted(str(name) for name in values.keys() - known.keys()):
        raise CardFactsError(f"{path.name!r} has {unknown!r}. Known are {', '.join(known)}.")
    for name, value in values.items():
        values[name] = _checked(value, name, repr(path.name))
    return CardFacts(**values)


def check_result(one: Any, where: str) -> dict[str, Any]:
    """
    One result of an evaluation: a mapping with `task`, `metric` and `value`, and fields that we know.

    Raises:
        `CardFactsError`: with `where`, which names file and field.
    """
    if not isinstance(one, dict):
        raise CardFactsError(
            f"{where} has {_shown(one)} where a result is expected: {{task: ..., metric: ..., value: ...}}."
        )
    if missing := [name for name in ("task", "metric", "value") if one.get(name) is None]:
        raise CardFactsError(f"{where} has no `{'`, `'.join(missing)}`; it has {_shown(one)}.")
    if unknown := sorted(str(name) for name in one.keys() - _OF_A_RESULT):
        raise CardFactsError(f"{where} has {unknown!r}. Known are {', '.join(sorted(_OF_A_RESULT))}.")
    value, number = one["value"], one.get("num_examples")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CardFactsError(f"{where}: `value` takes a number, and has {_shown(value)}.")
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 0):
        raise CardFactsError(f"{where}: `num_examples` takes a count, and has {_shown(number)}.")
    for name in one.keys() - {"value", "num_examples"}:
        if one[name] is not None and not (isinstance(one[name], str) or name == "harness_version"):
            raise CardFactsError(f"{where}: `{name}` takes text, and has {_shown(one[name])}.")
    return one


_OLD_LICENSE, _OLD_LICENSES = "licence", "licences"  # the old spelling, read as `license`
_OF_A_RESULT = {
    *("task", "metric", "value", "num_examples", "protocol", "harness", "harness_version", "dataset"),
    *("dataset_revision", "dataset_id", "task_id", "measured_by", "source"),
}
_LISTS = ("language", "tags", "citations", "notes", "recipes", "own_settings")
_CHOICES = {
    "layout": ("builtin", "open_llava"),
    "base_model_relation": ("adapter", "merge", "quantized", "finetune"),
}


def _checked(value: Any, name: str, file: str) -> Any:
    if name == "evaluation":
        if not isinstance(value, list):
            raise CardFactsError(f"{file}: `evaluation` takes a list, and has {_shown(value)}.")
        return [check_result(one, f"{file}: `evaluation[{number}]`") for number, one in enumerate(value)]
    if name == "licenses":
        return _licenses(value, file)
    if name in _LISTS:
        if not isinstance(value, list):
            raise CardFactsError(f"{file}: `{name}` takes a list, and has {_shown(value)}.")
        for number, one in enumerate(value):
            if not isinstance(one, str):
                raise CardFactsError(f"{file}: `{name}[{number}]` takes text, and has {_shown(one)}.")
        return value
    if name in _CHOICES and value not in _CHOICES[name]:
        raise CardFactsError(f"{file}: `{name}` takes {' or '.join(_CHOICES[name])}, and has {_shown(value)}.")
    if name == "prompt" and value is None:
        raise CardFactsError(f"{file}: `prompt` takes text, and has nothing.")
    if value is not None and not isinstance(value, str):
        raise CardFactsError(f"{file}: `{name}` takes text, and has {_shown(value)}.")
    return value


def _licenses(value: Any, file: str) -> dict[str, dict[str, str]]:
    if not isinstance(value, dict):
        raise CardFactsError(
            f"{file}: `licenses` takes names with their license, such as {{language_model: MIT}}, and has "
            f"{_shown(value)}."
        )
    found = {}
    for name, one in value.items():
        where = f"{file}: `licenses.{name}`"
        stated = {"license": one} if isinstance(one, str) else one
        if not isinstance(stated, dict):
            raise CardFactsError(
                f"{where} takes a license, or {{license: ..., evidence: ...}}, and has {_shown(one)}."
            )
        stated = _one_spelling(stated, _OLD_LICENSE, "license", where)
        if unknown := sorted(str(key) for key in stated.keys() - {"license", "evidence"}):
            raise CardFactsError(f"{where} has {unknown!r}. Known are license, evidence.")
        for key, text in stated.items():
            if not isinstance(text, str):
                raise CardFactsError(f"{where}: `{key}` takes text, and has {_shown(text)}.")
        if not stated.get("license", "").strip():
            raise CardFactsError(f"{where} states no license.")
        found[str(name)] = stated
    return found


def _one_spelling(values: dict[Any, Any], other: str, ours: str, where: str) -> dict[Any, Any]:
    """A mapping in which the license is spelt as our fields are."""
    if other in values and ours in values:
        raise CardFactsError(f"{where} has both `{other}` and `{ours}`. Keep one of them.")
    if other in values:
        logger.info("%s: `%s` is read as `%s`", where, other, ours)
    return {ours if name == other else name: value for name, value in values.items()}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


__all__ = ["FACTS_NAME", "CardFacts", "CardFactsError", "check_result", "read_card_facts"]
