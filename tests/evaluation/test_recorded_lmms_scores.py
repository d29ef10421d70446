"""Scores and verdicts against those of lmms-eval on the same documents and answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.recorded_evaluation import documents, recorded
from transformers_llava.evaluation.scoring.mmbench import score_mmbench_lmms
from transformers_llava.evaluation.scoring.mme import score_mme_lmms
from transformers_llava.evaluation.scoring.pope import score_pope_lmms
from transformers_llava.evaluation.scoring.scienceqa import score_scienceqa_lmms
from transformers_llava.evaluation.scoring.seed_bench import score_seed_bench_lmms
from transformers_llava.evaluation.scoring.soft_accuracy import score_soft_accuracy
from transformers_llava.evaluation.scoring.verdicts import TaskResult
from transformers_llava.evaluation.scoring.whole_answer import score_gqa_lmms
from transformers_llava.evaluation.tasks import load_task


def runs(golden: Path, task: str, score: Any) -> dict[str, tuple[dict[str, Any], TaskResult]]:
    """Of each recorded set: what lmms-eval made of it, and ours. Texts stand in the order of the documents."""
    questions = documents(golden, task)
    found = {}
    for name, expected in recorded(golden, task, "lmms_eval.json")["answer_sets"].items():
        lines = (golden / "evaluation" / task / "answers" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        texts = [recorded_text(line) for line in lines]
        assert len(texts) == len(questions)
        result = score(questions, {question.key: text for question, text in zip(questions, texts)})
        assert result.scores[0].name == load_task(task).protocol("lmms-eval").headline
        found[name] = expected, result
    assert len(found) >= 3
    return found


def recorded_text(line: str) -> str:
    return json.loads(line)["text"].strip()


def test_pope(golden: Path) -> None:
    for expected, result in runs(golden, "pope", score_pope_lmms).values():
        assert [verdict.score for verdict in result.verdicts] == expected["per_question"]
        assert [verdict.parsed for verdict in result.verdicts] == expected["predictions"]
        totals = dict(expected["totals"])
        for split, values in expected["totals_per_split"].items():
            totals |= {f"{split}/{name}": value for name, value in values.items()}
        assert result.values == totals


def test_mme(golden: Path) -> None:
    for expected, result in runs(golden, "mme", score_mme_lmms).values():
        assert [verdict.score for verdict in result.verdicts] == expected["per_question"]
        assert [verdict.parsed for verdict in result.verdicts] == expected["parsed"]
        categories = {f"category/{name}": value for name, value in expected["per_category"].items()}
        assert result.values == expected["totals"] | categories


@pytest.mark.parametrize("task", ["textvqa", "vqav2", "vizwiz"])
def test_soft_accuracy(task: str, golden: Path) -> None:
    def score(questions: Any, texts: Any) -> TaskResult:
        return score_soft_accuracy(questions, texts, task=task)

    for expected, result in runs(golden, task, score).values():
        assert [verdict.score for verdict in result.verdicts] == expected["per_question"]
        assert [verdict.parsed for verdict in result.verdicts] == expected["submission"]
        assert result.values == expected["totals"]


def test_gqa(golden: Path) -> None:
    for expected, result in runs(golden, "gqa", score_gqa_lmms).values():
        assert [verdict.score for verdict in result.verdicts] == expected["per_question"]
        assert result.values == expected["totals"]


def test_scienceqa(golden: Path) -> None:
    for expected, result in runs(golden, "scienceqa", score_scienceqa_lmms).values():
        assert [verdict.score for verdict in result.verdicts] == expected["per_question"]
        assert sorted(result.values.values()) == sorted(expected["totals"].values())
        assert result.values["exact_match_all"] == expected["totals"]["exact_match_of_all"]


def test_seed_bench(golden: Path) -> None:
    for expected, result in runs(golden, "seed_bench", score_seed_bench_lmms).values():
        assert [verdict.score for verdict in result.verdicts] == expected["per_question"]
        assert [verdict.parsed for verdict in result.verdicts] == expected["predictions"]
        assert result.values == expected["totals"]


@pytest.mark.parametrize("task", ["mmbench", "mmbench_cn"])
def test_mmbench(task: str, golden: Path) -> None:
    for expected, result in runs(golden, task, score_mmbench_lmms).values():
        hits = {str(verdict.key): int(verdict.score) for verdict in result.verdicts}
        assert hits == expected["static_hit_per_index"]
        static = expected["static_totals"]
        assert result.values["overall"] == pytest.approx(static["overall"], abs=1e-15)
        for level in ("category", "l2_category"):
            ours = {n.split("/", 1)[1]: value for n, value in result.values.items() if n.startswith(f"{level}/")}
            assert ours == pytest.approx(static[level], abs=1e-15)
