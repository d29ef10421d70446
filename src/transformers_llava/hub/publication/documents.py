"""Write the documents of a publication (licenses, openness, curve, card), and compute them again as a check."""

import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from transformers_llava.artifacts.card_facts import FACTS_NAME, CardFacts, read_card_facts
from transformers_llava.artifacts.limits import MAX_CARD_BYTES, MAX_CARD_MARKERS, MAX_TEXT_BYTES
from transformers_llava.artifacts.old_spellings import document_with_new_spellings
from transformers_llava.artifacts.run_record.run_stages import RunRecord
from transformers_llava.artifacts.untrusted import DocumentError, parse_yaml, read_json, read_yaml
from transformers_llava.hub.cards.loss_curve import draw_curves
from transformers_llava.hub.cards.merge import generated_parts
from transformers_llava.hub.cards.render import missing_fields, render_card
from transformers_llava.hub.cards.results import EVALUATION_NAME, read_results, write_eval_results
from transformers_llava.hub.cards.validation import validate_card
from transformers_llava.hub.licenses.openness import write_openness
from transformers_llava.hub.licenses.statement import LicenseStatement, compose_licenses, lint_card
from transformers_llava.hub.licenses.texts import check_license_texts
from transformers_llava.hub.publication.manifest import Manifest
from transformers_llava.hub.verification.findings import Found, reason


COMPUTED = ("LICENSE.md", "NOTICE", "mof.yml")

_BEGIN = re.compile(r"<!-- llava:begin (\w+) -->")
_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)


def write_documents(
    folder: Path, repo_id: str, run: RunRecord, *, allow_incomplete: bool, notes: list[str]
) -> list[str]:
    """
    Writes NOTICE, LICENSE.md, mof.yml, the loss curve and README.md into a publication.

    Returns:
        `list[str]`: What the card does not say, though it should; empty unless `allow_incomplete`.

    Raises:
        `ValueError`: the card has gaps, or the Hub would refuse it.
    """
    facts = _facts(folder)
    draw_curves(run.stages, folder)
    write_eval_results(folder, read_results(folder, facts))
    statement = _write_licenses(folder, run, facts, held_in=folder)
    incomplete = missing_fields(folder, run, facts, statement)
    card = render_card(folder, repo_id, run, facts, statement, allow_incomplete=allow_incomplete)
    errors, warnings = validate_card(card)
    if errors:
        raise ValueError("the Hub would refuse the card: " + "; ".join(errors))
    (folder / "README.md").write_text(card, encoding="utf-8")
    notes += [f"card: {warning}" for warning in warnings]
    notes += [f"licenses: {problem}" for problem in lint_card(card, statement, repo_id)]
    notes += [f"licenses: {missing}" for missing in check_license_texts(statement.parts, folder).missing]
    notes.append(f"licenses: {statement.summary}")
    return incomplete


def check_documents(folder: Path, run: RunRecord, manifest: Manifest) -> Iterator[Found]:
    """Computes the documents again from the publication itself and compares."""
    with tempfile.TemporaryDirectory() as scratch:
        again = Path(scratch)
        try:
            _check_inputs(folder)
            facts = _facts(folder)
            statement = _write_licenses(again, run, facts, held_in=folder)
            card = render_card(folder, manifest.repo_id, run, facts, statement, allow_incomplete=True)
        except Exception as error:  # every field of these files may be of another type than it should be
            yield Found("documents", "failed", f"they cannot be computed again: {reason(error)}")
            return
        for name in COMPUTED:
            try:
                there = read_text(folder / name)
            except DocumentError as error:
                yield Found(name, "failed", str(error))
                continue
            there, computed = map(document_with_new_spellings, (there, read_text(again / name)))
            if there == computed:
                yield Found(name, "ok", "computed again, the same" if name != "LICENSE.md" else statement.summary)
            else:
                yield Found(name, "failed", _first_difference(computed, there))
    yield from _check_card(folder / "README.md", card)


def _check_inputs(folder: Path) -> None:
    """What the documents are computed from is within bounds before anything reads it without one."""
    for name in ("config.json", EVALUATION_NAME):
        if (folder / name).exists():
            read_json(folder / name)
    if (folder / FACTS_NAME).exists():
        read_yaml(folder / FACTS_NAME, kind=(dict, type(None)))


def _check_card(path: Path, card: str) -> Iterator[Found]:
    """The generated parts of a card, each once; the words around them are a user's."""
    try:
        there = read_text(path, MAX_CARD_BYTES).replace("\r\n", "\n")  # as the Hub's editor may save it
        if there.count("<!-- llava:") > MAX_CARD_MARKERS:
            raise DocumentError(f"it has more than {MAX_CARD_MARKERS} markers.")
        if match := _FRONT_MATTER.match(there):
            parse_yaml(match[1], "the metadata of README.md", kind=(dict, type(None)))
    except DocumentError as error:
        yield Found("README.md", "failed", str(error))
        return
    there, card = document_with_new_spellings(there), document_with_new_spellings(card)
    written, computed = generated_parts(there), generated_parts(card)
    times = Counter(_BEGIN.findall(there))
    wanted = Counter(_BEGIN.findall(card))
    different = [name for name in computed if written.get(name) != computed[name]]
    different += [name for name in times | wanted if times[name] != wanted[name] and name not in different]
    if different:
        yield Found(
            "README.md",
            "failed",
            f"its generated parts {', '.join(different[:10])} do not say what run.json says, or not once",
        )
        return
    yield Found("README.md", "ok", f"{len(computed)} generated parts, computed again, the same")
    if there != card:
        yield Found("words in README.md", "skipped", "what stands outside the generated parts was written by a user")


def _facts(folder: Path) -> CardFacts:
    path = folder / FACTS_NAME
    return read_card_facts(path) if path.is_file() else CardFacts()


def statement_of(folder: Path, run: RunRecord, facts: CardFacts | None = None) -> LicenseStatement:
    """What the licenses of a publication come to, with the facts that lie in it."""
    return compose_licenses(run, run.own.mixture_lock, facts or _facts(folder))


def _write_licenses(target: Path, run: RunRecord, facts: CardFacts, *, held_in: Path) -> LicenseStatement:
    statement = statement_of(target, run, facts)
    statement.write(target, check_license_texts(statement.parts, held_in))
    write_openness(target, run, statement)
    return statement


def read_text(path: Path, limit: int = MAX_TEXT_BYTES) -> str:
    """
    The text of a file of a publication; empty where there is none.

    Raises:
        `DocumentError`: it has more than `limit` bytes, or is no UTF-8.
    """
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise DocumentError(f"it is larger than {limit / 2**20:.0f} MiB, the most that is compared.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(f"it is no UTF-8 text: {error.reason} at byte {error.start}.") from error


def _first_difference(computed: str, there: str) -> str:
    if not there:
        return "it is missing"
    for line, (wanted, found) in enumerate(zip(computed.splitlines(), [*there.splitlines(), ""], strict=False), 1):
        if wanted != found:
            return f"line {line} is {found[:200]!r}; computed again it is {wanted[:200]!r}"
    return "it has lines that the run does not give"


__all__ = ["COMPUTED", "check_documents", "read_text", "statement_of", "write_documents"]
