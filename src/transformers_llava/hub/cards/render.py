"""Render the README.md of a publication: generated parts between markers, and what people wrote around them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers_llava.artifacts.card_facts import CardFacts
from transformers_llava.artifacts.run_record.run_stages import RunRecord, Stage
from transformers_llava.hub.cards import sections as card_parts
from transformers_llava.hub.cards.loss_curve import CURVES_NAME
from transformers_llava.hub.cards.markdown import escape_markers
from transformers_llava.hub.cards.merge import CardError, dump_front_matter
from transformers_llava.hub.cards.results import model_index, read_results, results_table
from transformers_llava.hub.licenses.statement import LicenseStatement


def render_card(
    folder: Path,
    repo_id: str,
    run: RunRecord,
    facts: CardFacts,
    statement: LicenseStatement,
    *,
    allow_incomplete: bool = False,
) -> str:
    """
    The card of a publication, from its run record, configuration, results and licenses.

    Args:
        folder (`Path`): The publication.
        repo_id (`str`): What its commands call it.
        run (`RunRecord`): That of the publication.
        facts (`CardFacts`): What only a user can say.
        statement (`LicenseStatement`): See [`compose_licenses`].
        allow_incomplete (`bool`, *optional*): Render it with gaps, and say which.

    Raises:
        `CardError`: the card would have gaps; with their names.
    """
    gaps = missing_fields(folder, run, facts, statement)
    if gaps and not allow_incomplete:
        raise CardError(
            f"the card would not say {'; '.join(gaps)}. Run an evaluation, or add it to card.yaml (--facts); with "
            "--allow_incomplete it is published as it is, and says so."
        )
    stages = run.stages
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    layout = "open_llava" if config["model_type"] == "open_llava" else "builtin"
    results = read_results(folder, facts)
    parts = {
        "summary": card_parts.summary_part(facts, stages),
        "incomplete": "**Not said here:** " + "; ".join(gaps) + "." if gaps else "",
        "usage": card_parts.usage_part(repo_id, layout, facts),
        "architecture": card_parts.architecture_part(config, stages),
        "data": card_parts.data_part(stages),
        "training": card_parts.training_part(stages, facts, has_curve=(folder / CURVES_NAME).is_file()),
        "evaluation": "## Evaluation\n\n" + results_table(results) if results else "",
        "license": card_parts.license_part(statement),
        "verification": card_parts.verification_part(repo_id, stages),
        "citation": card_parts.citation_part(facts),
    }
    metadata = card_metadata(repo_id, stages, facts, statement, results)
    title = facts.title or repo_id.rpartition("/")[2]
    return assemble_card(metadata, title, parts)


def assemble_card(metadata: dict[str, Any], title: str, parts: dict[str, str]) -> str:
    """Metadata, heading, and every part that says something between its markers."""
    text = [f"---\n{dump_front_matter(metadata)}---", f"# {title}"]
    text += [
        f"<!-- llava:begin {name} -->\n{escape_markers(part)}\n<!-- llava:end {name} -->"
        for name, part in parts.items()
        if part
    ]
    return "\n\n".join(text) + "\n"


def missing_fields(folder: Path, run: RunRecord, facts: CardFacts, statement: LicenseStatement) -> list[str]:
    """What a reader would look for and the card could not say."""
    missing = []
    if not read_results(folder, facts):
        missing.append("how well it answers (evaluation.json)")
    if facts.limitations is None:
        missing.append("its limitations (`limitations` in card.yaml)")
    if facts.intended_use is None:
        missing.append("what it is for (`intended_use` in card.yaml)")
    for part in statement.parts:
        if part.kind == "component" and part.declared == "unknown":
            missing.append(f"the license of {part.name} (`licenses` in card.yaml)")
    for stage in run.stages:
        for base in stage.base_models:
            if base.origin == "hub" and not base.revision:
                missing.append(f"the revision of {base.name}")
        if not stage.loss_history:
            missing.append(f"the losses of {stage.name}")
    return list(dict.fromkeys(missing))


_DATASETS = "https://huggingface.co/datasets/"


def card_metadata(
    repo_id: str,
    stages: Sequence[Stage],
    facts: CardFacts,
    statement: LicenseStatement,
    results: list[dict[str, Any]],
) -> dict[str, Any]:
    """The YAML at the top: what the Hub lists, filters and links by."""
    bases = [base.name for stage in stages for base in stage.own_bases if base.origin == "hub"]
    sources = [source for stage in stages for source in stage.sources]
    datasets = [
        "/".join(path.removeprefix("hf://datasets/").partition("@")[0].split("/")[:2])
        for source in sources
        for path in source.paths.values()
        if path.startswith("hf://datasets/")
    ]
    datasets += [
        "/".join(download.url.removeprefix(_DATASETS).split("/")[:2])
        for source in sources
        for download in source.downloads
        if download.url.startswith(_DATASETS)
    ]
    values: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        **statement.metadata(),
        "language": facts.language,
    }
    if bases:
        values |= {
            "base_model": list(dict.fromkeys(bases)),
            "base_model_relation": facts.base_model_relation or "finetune",
        }
    if datasets:
        values["datasets"] = list(dict.fromkeys(datasets))
    recorded = [] if facts.recipes else ["reproducible"]  # by `llava reproduce`, from a run that recorded itself
    values["tags"] = list(dict.fromkeys(["llava", "transformers-llava", *recorded, *facts.tags]))
    if index := model_index(repo_id.rpartition("/")[2], results):
        values["model-index"] = index
    return values


__all__ = ["assemble_card", "card_metadata", "missing_fields", "render_card"]
