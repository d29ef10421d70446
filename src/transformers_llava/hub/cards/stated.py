"""Render packaged recipes and a `card.yaml` as the card of a model that others trained, or that nobody has yet.

`python -m transformers_llava.hub.cards.stated hub_cards` renders the cards of a folder again.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from transformers_llava.artifacts.card_facts import CardFacts, read_card_facts
from transformers_llava.artifacts.run_record.base_model import ROLE_FIELDS
from transformers_llava.artifacts.run_record.run_stages import RunRecord
from transformers_llava.hub.cards import sections as card_parts
from transformers_llava.hub.cards.render import assemble_card, card_metadata
from transformers_llava.hub.cards.results import read_results, results_table
from transformers_llava.hub.licenses.statement import compose_licenses
from transformers_llava.hub.licenses.texts import check_license_texts, write_packaged_texts
from transformers_llava.packaged import packaged_file


def render_stated_card(facts: CardFacts, repo_id: str) -> str:
    """
    A card without a run record: recipes, mixtures and licenses are the packaged ones, results the stated ones.

    Args:
        facts (`CardFacts`): With `recipes`; every figure in its `evaluation` says whose it is.
        repo_id (`str`): What its commands call it.

    Raises:
        `ValueError`: a result does not say who measured it.
    """
    nameless = [one.get("task") for one in facts.evaluation if not (one.get("measured_by") and one.get("source"))]
    if nameless:
        raise ValueError(f"the results {nameless} do not say who measured them (`measured_by`, `source`).")
    run = stated_run(facts.recipes)
    stages, statement = run.stages, compose_licenses(run, None, facts)
    results = read_results(Path("nowhere"), facts)
    parts = {
        "summary": card_parts.summary_part(facts, stages),
        "usage": card_parts.usage_part(repo_id, facts.layout, facts),
        "architecture": card_parts.bases_part(stages),
        "data": card_parts.data_part(stages),
        "training": card_parts.recipes_part(stages, facts),
        "evaluation": "## Evaluation\n\n" + results_table(results) if results else "",
        "license": card_parts.license_part(statement),
        "verification": _verification(),
        "citation": card_parts.citation_part(facts),
    }
    metadata = card_metadata(repo_id, stages, facts, statement, results)
    return assemble_card(metadata, facts.title or repo_id.rpartition("/")[2], parts)


def stated_run(recipes: list[str]) -> RunRecord:
    """What packaged recipes say, in the form of a run record, the last one last; what nobody recorded is empty."""
    runs = [_stage(name) for name in recipes]
    return RunRecord.from_dict({**runs[-1], "previous": runs[:-1]})


def _stage(name: str) -> dict[str, Any]:
    values = yaml.safe_load(packaged_file("recipe", name).read_text(encoding="utf-8"))
    mixture = yaml.safe_load(packaged_file("mixture", values["train_data"]).read_text(encoding="utf-8"))
    counts = {s["name"]: sum(part["num_examples"] for part in s.get("parts", [])) for s in mixture["sources"]}
    total = sum(counts.values())
    return {
        "stage": values["stage"],
        "recipe": {**values, "name": name},
        "configuration": values,
        "base_models": [
            {"role": role, "name": values[field], "origin": "hub", "revision": None, "digest": None}
            for role, (field, _) in ROLE_FIELDS.items()
            if field in values
        ],
        "mixture": mixture,
        "data": {
            "num_used": total,
            "sources": [
                {"name": source, "num_used": count, "proportion": count / total, "num_images": None, "digest": None}
                for source, count in counts.items()
            ],
        },
        "hardware": {"world_size": 8, "device": "GPU"},
        "components": [],
    }


def _verification() -> str:
    return (
        "## Verify and reproduce\n\nThese weights were not made by a run that recorded itself, so there is no "
        "manifest, and commits of base models, seeds and package versions of that day are not known. The "
        "commands above train the recipe again; what comes out can be published and verified:\n\n"
        "```bash\nllava publish OUTPUT OWNER/NAME\nllava verify OWNER/NAME\n```"
    )


def main(folder: Path) -> None:
    """Renders `README.md`, `LICENSE.md`, `NOTICE` and license texts beside each `card.yaml` that names recipes."""
    for path in sorted(folder.glob("*/card.yaml")):
        facts = read_card_facts(path)
        if facts.recipes:
            (path.parent / "README.md").write_text(render_stated_card(facts, path.parent.name), encoding="utf-8")
            statement = compose_licenses(stated_run(facts.recipes), None, facts)
            write_packaged_texts(statement.parts, path.parent)
            statement.write(path.parent, check_license_texts(statement.parts, path.parent))


if __name__ == "__main__":
    main(Path(sys.argv[1]))


__all__ = ["render_stated_card", "stated_run"]
