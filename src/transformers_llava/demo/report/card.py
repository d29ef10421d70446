"""Write the card of the demo's checkpoint: what only its maker knows, its results, and the rendered README."""

import json
from pathlib import Path
from typing import Any

import yaml

from transformers_llava.artifacts.card_facts import FACTS_NAME, read_card_facts
from transformers_llava.artifacts.run_record.record_file import read_checked_record
from transformers_llava.demo.report.summary import DemoReport
from transformers_llava.hub.cards.render import render_card
from transformers_llava.hub.cards.results import EVALUATION_NAME
from transformers_llava.hub.licenses.statement import compose_licenses


REPO_ID = "tiny-llava"  # until somebody publishes it under a name of their own


def write_card(report: DemoReport, folder: Path) -> Path:
    """Writes `card.yaml`, `evaluation.json` and `README.md` beside the weights: ready for `llava publish`."""
    (folder / FACTS_NAME).write_text(yaml.safe_dump(card_facts(report), sort_keys=False, width=110), encoding="utf-8")
    text = json.dumps({"tasks": results(report)}, indent=2) + "\n"
    (folder / EVALUATION_NAME).write_text(text, encoding="utf-8")
    facts = read_card_facts(folder / FACTS_NAME)
    run = read_checked_record(folder)
    statement = compose_licenses(run, None, facts)
    path = folder / "README.md"
    path.write_text(render_card(folder, REPO_ID, run, facts, statement), encoding="utf-8")
    return path


def card_facts(report: DemoReport) -> dict[str, Any]:
    """The facts that a user would state in `card.yaml`."""
    pixels = report.parts["vision_tower"]["settings"]["image_size"]
    made_here = {"license": "Apache-2.0", "evidence": "https://www.apache.org/licenses/LICENSE-2.0"}
    return {
        "title": "A tiny LLaVA",
        "summary": "Made by `llava demo` of transformers-llava: a small CLIP vision tower, a two-layer projector "
        "and a small Llama-style language model, trained in the two stages of LLaVA on drawn scenes and handwritten "
        f"digits. Seed {report.seed}.",
        "intended_use": "To show that the recipe works, and to try tools on something small.",
        "limitations": f"It sees images at {pixels} pixels a side, and its language model has read nothing but "
        "captions and questions of this kind: shapes, colours, counts, positions, digits. It is no model to use.",
        "prompt": "Which digit is written here?",
        "licenses": {"language_model": made_here, "vision_tower": made_here},
    }


def results(report: DemoReport) -> list[dict[str, Any]]:
    """Held-out accuracies with their protocol, and the control without images."""
    tasks = []
    for source in report.sources:
        for accuracy, how in (
            (source.accuracy, "with images"),
            (source.blind_accuracy, "without images, a control"),
        ):
            tasks.append(
                {
                    "task": f"{source.name}, {how}",
                    "metric": "exact match",
                    "value": round(accuracy, 4),
                    "num_examples": source.num_examples,
                    "protocol": "held out, greedy answers, exact but for case and a final full stop",
                    "harness": "transformers-llava",
                    "harness_version": report.runs["instruct"]["versions"]["transformers-llava"],
                    "dataset": f"demo/{source.name}",
                }
            )
    return tasks


__all__ = ["REPO_ID", "card_facts", "results", "write_card"]
