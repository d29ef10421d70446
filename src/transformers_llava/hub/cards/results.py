"""Write measured and stated results: the card's table, its `model-index`, and the Hub's `.eval_results/`."""

import re
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from transformers_llava.artifacts.card_facts import CardFacts, CardFactsError, check_result
from transformers_llava.artifacts.untrusted import read_json
from transformers_llava.hub.cards.markdown import write_table


EVALUATION_NAME = "evaluation.json"
RESULTS_FOLDER = ".eval_results"
_US = "this package, on these weights"


def read_results(folder: Path, facts: CardFacts) -> list[dict[str, Any]]:
    """
    Results measured on these weights (`evaluation.json`, `{"tasks": [...]}`), then those that a user has stated.

    Each has `task`, `metric`, `value`; and where known `num_examples`, `protocol`, `harness`, `harness_version`,
    `dataset`, `dataset_revision`, `measured_by`, `source`.

    Raises:
        `ValueError`: `evaluation.json` is no such file; with its name and the field.
    """
    measured: list[dict[str, Any]] = []
    path = folder / EVALUATION_NAME
    if path.is_file():
        tasks = read_json(path).get("tasks")
        if not isinstance(tasks, list):
            raise CardFactsError(f'{EVALUATION_NAME!r} has no list `tasks`: {{"tasks": [{{"task": ..., ...}}]}}.')
        measured = [check_result(one, f"{EVALUATION_NAME!r}: `tasks[{number}]`") for number, one in enumerate(tasks)]
    return [{"measured_by": _US, **one} for one in measured] + [
        {"measured_by": "not stated", **one} for one in facts.evaluation
    ]


def results_table(results: list[dict[str, Any]]) -> str:
    """As Markdown; whose figure it is stands beside it."""
    rows = []
    for one in results:
        harness = " ".join(str(one[name]) for name in ("harness", "harness_version") if one.get(name))
        protocol = "; ".join(text for text in (one.get("protocol", ""), harness) if text)
        whose = one["measured_by"] + (f" (<{one['source']}>)" if one.get("source") else "")
        number = f"{one['num_examples']:,}" if one.get("num_examples") else ""
        rows.append([one["task"], one["metric"], _figure(one["value"]), number, protocol, whose])
    header = ["task", "metric", "value", "questions", "protocol", "measured by"]
    return write_table(header, rows, align="llrrll")


def model_index(name: str, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The metadata that the Hub reads results from."""
    # Not `eval_results_to_model_index`: it joins all results on one data set under the name of the first, so that a
    # control without images would stand there as a second result with them.
    if not results:
        return []
    entries = [
        {
            "task": {"type": "image-text-to-text"},
            "dataset": {"type": one.get("dataset", one["task"]), "name": one["task"]},
            "metrics": [
                {"type": one["metric"], "value": one["value"], "name": f"{one['metric']} ({one['measured_by']})"}
            ],
        }
        for one in results
    ]
    return [{"name": name, "results": entries}]


def write_eval_results(folder: Path, results: list[dict[str, Any]]) -> list[Path]:
    """One file per result on a data set of the Hub; others have no place there."""
    written = []
    for one in results:
        if one["measured_by"] != _US or not one.get("dataset_id"):
            continue
        entry = EvalResultEntry(
            dataset_id=one["dataset_id"],
            task_id=one.get("task_id", "default"),
            value=one["value"],
            dataset_revision=one.get("dataset_revision"),
            notes=one.get("protocol"),
        )
        path = folder / RESULTS_FOLDER / (re.sub(r"\W+", "_", one["task"]).strip("_").lower() + ".yaml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False), encoding="utf-8")
        written.append(path)
    return written


def _figure(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


__all__ = ["EVALUATION_NAME", "model_index", "read_results", "results_table", "write_eval_results"]
