"""`card.yaml` to the facts about a model that only a person can state."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml


class CardFactsError(ValueError):
    """A `card.yaml` that can not be used: no YAML, or a field that would have no effect."""


@dataclass(frozen=True)
class CardFacts:
    """
    What a run does not know of itself.

    Args:
        title (`str`, *optional*): Heading of the card; the name of the repository by default.
        summary (`str`, *optional*): What it is, in one paragraph.
        intended_use, out_of_scope, limitations (`str`, *optional*): In a person's words.
        contact (`str`, *optional*): Where to ask.
        language (`list[str]`): ISO codes.
        tags (`list[str]`): More words for the Hub's search.
        prompt (`str`): The question in the usage example.
        hardware, time (`str`, *optional*): In place of the recorded ones, for a model that was not trained here.
        evaluation (`list[dict]`): Results with `task`, `metric`, `value`, and whose they are: `measured_by`, `source`.
        licences (`dict`): Component or source name -> {licence, evidence}: for parts that state none themselves.
        citations (`list[str]`): BibTeX.
        notes (`list[str]`): What else a reader must know, such as that the weights are not ours.
        usage (`str`, *optional*): In place of the usual lines, for what is no whole model.
        recipes (`list[str]`): Packaged recipes that say how a model was trained of which there is no run record.
        layout (`str`): Of such a model.
    """

    title: str | None = None
    summary: str | None = None
    intended_use: str | None = None
    out_of_scope: str | None = None
    limitations: str | None = None
    contact: str | None = None
    language: list[str] = field(default_factory=lambda: ["en"])
    tags: list[str] = field(default_factory=list)
    prompt: str = "What is in this picture?"
    hardware: str | None = None
    time: str | None = None
    evaluation: list[dict[str, Any]] = field(default_factory=list)
    licences: dict[str, dict[str, str]] = field(default_factory=dict)
    citations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    usage: str | None = None
    recipes: list[str] = field(default_factory=list)
    layout: str = "builtin"


def read_card_facts(path: str | Path) -> CardFacts:
    """
    Raises:
        `CardFactsError`: with the file and the field.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CardFactsError(f"the facts of the card, {path.name!r}, can not be read: {error}") from error
    known = {one.name: one for one in fields(CardFacts)}
    if not isinstance(values, dict) or set(values) - set(known):
        unknown = sorted(set(values) - set(known)) if isinstance(values, dict) else values
        raise CardFactsError(f"{path.name!r} has {unknown!r}. Known are {', '.join(known)}.")
    for name in ("language", "tags", "evaluation", "citations", "notes", "recipes"):
        if name in values and not isinstance(values[name], list):
            raise CardFactsError(f"{path.name!r}: `{name}` takes a list, and has {values[name]!r}.")
    return CardFacts(**values)


__all__ = ["CardFacts", "CardFactsError", "read_card_facts"]
