"""A run record to the documents of a publication (licences, openness, curve, card), and the same again as a check."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers_llava.hub.card_facts import CardFacts, read_card_facts
from transformers_llava.hub.card_validation import validate_card
from transformers_llava.hub.cards import generated_parts, missing_fields, render_card
from transformers_llava.hub.curves import draw_curves
from transformers_llava.hub.evaluation_results import read_results, write_eval_results
from transformers_llava.hub.licences import LicenceStatement, compose_licences, lint_card
from transformers_llava.hub.license_texts import check_license_texts
from transformers_llava.hub.manifest import Manifest
from transformers_llava.hub.openness import write_openness
from transformers_llava.hub.stages import stages_of


_COMPUTED = ("LICENSE.md", "NOTICE", "mof.yml")


def write_documents(
    folder: Path, repo_id: str, run: dict[str, Any], *, allow_incomplete: bool, notes: list[str]
) -> list[str]:
    """
    Writes NOTICE, LICENSE.md, mof.yml, the loss curve and README.md into a publication.

    Returns:
        `list[str]`: What the card does not say, though it should; empty unless `allow_incomplete`.

    Raises:
        `ValueError`: the card has gaps, or the Hub would refuse it.
    """
    facts = _facts(folder)
    draw_curves(stages_of(run), folder)
    write_eval_results(folder, read_results(folder, facts))
    statement = _write_licences(folder, run, facts, held_in=folder)
    incomplete = missing_fields(folder, facts, statement)
    card = render_card(folder, repo_id, facts, statement, allow_incomplete=allow_incomplete)
    errors, warnings = validate_card(card)
    if errors:
        raise ValueError("the Hub would refuse the card: " + "; ".join(errors))
    (folder / "README.md").write_text(card, encoding="utf-8")
    notes += [f"card: {warning}" for warning in warnings]
    notes += [f"licences: {problem}" for problem in lint_card(card, statement, repo_id)]
    notes += [f"licences: {missing}" for missing in check_license_texts(statement.parts, folder).missing]
    notes.append(f"licences: {statement.summary}")
    return incomplete


def check_documents(folder: Path, run: dict[str, Any], manifest: Manifest) -> Iterator[tuple[str, Any, str]]:
    """Computes the documents again from the publication itself and compares; (name, status, message)."""
    with tempfile.TemporaryDirectory() as scratch:
        again = Path(scratch)
        try:
            facts = _facts(folder)
            statement = _write_licences(again, run, facts, held_in=folder)
            card = render_card(folder, manifest.repo_id, facts, statement, allow_incomplete=True)
        except (ValueError, KeyError, TypeError, OSError) as error:
            yield "documents", "failed", f"they cannot be computed again: {error!r}"
            return
        for name in _COMPUTED:
            there = _read(folder / name)
            if there == _read(again / name):
                yield name, "ok", "computed again, the same" if name != "LICENSE.md" else statement.summary
            else:
                yield name, "failed", _first_difference(_read(again / name), there)
    written, computed = generated_parts(_read(folder / "README.md")), generated_parts(card)
    different = [name for name in computed if written.get(name) != computed[name]]
    if different:
        yield "README.md", "failed", f"its generated parts {', '.join(different)} do not say what run.json says"
    else:
        yield "README.md", "ok", f"{len(computed)} generated parts, computed again, the same"


def _facts(folder: Path) -> CardFacts:
    path = folder / "card.yaml"
    return read_card_facts(path) if path.is_file() else CardFacts()


def statement_of(folder: Path, run: dict[str, Any], facts: CardFacts | None = None) -> LicenceStatement:
    """What the licenses of a publication come to, with the facts that lie in it."""
    return compose_licences(run, stages_of(run)[-1].run.get("mixture_lock"), facts or _facts(folder))


def _write_licences(target: Path, run: dict[str, Any], facts: CardFacts, *, held_in: Path) -> LicenceStatement:
    statement = statement_of(target, run, facts)
    statement.write(target, check_license_texts(statement.parts, held_in))
    write_openness(target, run, statement)
    return statement


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _first_difference(computed: str, there: str) -> str:
    if not there:
        return "it is missing"
    for line, (wanted, found) in enumerate(zip(computed.splitlines(), [*there.splitlines(), ""], strict=False), 1):
        if wanted != found:
            return f"line {line} is {found!r}; computed again it is {wanted!r}"
    return "it has lines that the run does not give"


__all__ = ["check_documents", "statement_of", "write_documents"]
