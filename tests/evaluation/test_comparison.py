"""Planted differences between two results are recovered exactly, cause by cause."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from support.recorded_evaluation import annotated, documents
from transformers_llava.artifacts.evaluation_files.predictions import (
    Prediction,
    PredictionsFile,
    PredictionsHeader,
    text_digest,
)
from transformers_llava.evaluation.asking import question_text
from transformers_llava.evaluation.comparison import (
    ComparisonError,
    Explanation,
    Side,
    differing_answers,
    explain,
)
from transformers_llava.evaluation.questions.question import Question
from transformers_llava.evaluation.scoring.verdicts import Protocol
from transformers_llava.evaluation.tasks import load_task


GQA = tuple(Question(i, str(i), f"Q{i}?", "a.jpg", answers=("cat",)) for i in range(10))


def side(
    questions: Sequence[Question],
    texts: Sequence[str],
    *,
    task: str = "gqa",
    protocol: Protocol = "llava-1.5",
    model_digest: str = "a" * 64,
    max_new_tokens: int = 128,
    reworded: int = 0,
    limit: bool = False,
) -> Side:
    """Answers in the order of the questions; the first `reworded` prompts are others."""
    described = load_task(task)
    predictions = tuple(
        Prediction(
            question.key,
            text_digest(question_text(described, protocol, question) + ("!" if place < reworded else "")),
            None,
            tuple(map(ord, text)),
            text,
            "length" if len(text) == max_new_tokens else "end",
        )
        for place, (question, text) in enumerate(zip(questions, texts))
    )
    header = PredictionsHeader(
        task=task,
        protocol=protocol,
        protocol_version=described.protocol(protocol).version,
        model="tiny",
        model_digest=model_digest,
        model_revision=None,
        chat_template="",
        decoding={"max_new_tokens": max_new_tokens},
        versions={},
        data_digest="",
        num_questions=len(predictions) if limit else len(questions),
        num_available=len(questions),
    )
    return Side(PredictionsFile(header, predictions, 0), questions)


def amounts(explanation: Explanation) -> dict[str, Fraction]:
    assert sum(part.amount for part in explanation.parts) == explanation.gap
    return {part.cause: part.amount for part in explanation.parts if part.amount or part.num_questions}


def close(value: Fraction, share: float) -> bool:
    return float(value) == pytest.approx(share, abs=1e-12)


FIRST = ["cat"] * 4 + ["dog"] * 6
BETTER = ["cat"] * 7 + ["dog"] * 3


@pytest.mark.parametrize(
    ("cause", "changes"),
    [
        ("prompt", {"reworded": 10}),
        ("decoding", {"max_new_tokens": 99}),
        ("model", {"model_digest": "b" * 64}),
        ("runtime", {}),
    ],
)
def test_a_single_cause_has_the_whole_gap(cause: str, changes: dict) -> None:
    found = amounts(explain(load_task("gqa"), side(GQA, FIRST), side(GQA, BETTER, **changes)))
    assert set(found) - {"normalization"} == {cause}
    assert close(found[cause], 0.3)


def test_causes_that_meet_are_told_apart_question_by_question() -> None:
    """Two prompts reworded, one answer cut by 16 tokens, the rest by other weights."""
    long = "a very long answer without an end"
    first = side(GQA, ["cat", "dog", long, "cat", "dog", *["dog"] * 5])
    second = side(
        GQA,
        ["dog", "cat", long[:16], "dog", "cat", *["cat"] * 5],
        reworded=2,
        max_new_tokens=16,
        model_digest="b" * 64,
    )
    explanation = explain(load_task("gqa"), first, second)
    assert {part.cause: part.num_questions for part in explanation.parts if part.num_questions} == {
        "prompt": 2,
        "decoding": 1,
        "model": 7,
    }
    found = amounts(explanation)
    assert close(found["prompt"], 0.0)
    assert close(found["model"], 0.5)
    assert close(explanation.gap, 0.5)


def test_the_other_rule_on_the_same_answers_is_normalization() -> None:
    texts = ["Cat!"] * 3 + ["cat"] * 4 + ["dog"] * 3
    found = amounts(explain(load_task("gqa"), side(GQA, texts), side(GQA, texts, protocol="lmms-eval")))
    assert close(found["normalization"], 0.3)
    assert close(found["subset"], 0.0) if "subset" in found else True


def test_yes_with_a_full_stop_is_what_pope_loses_between_the_protocols(golden: Path) -> None:
    questions = annotated(golden, "pope")
    texts = ["Yes." if question.truth == "yes" else "No." for question in questions]
    first = side(questions, texts, task="pope")
    second = side(documents(golden, "pope"), texts, task="pope", protocol="lmms-eval")
    explanation = explain(load_task("pope"), first, second)
    assert (explanation.first, explanation.second) == (1, 0)
    assert amounts(explanation) == {"normalization": -1}


def test_ocr_tokens_are_named_where_nothing_else_of_the_prompt_differs(golden: Path) -> None:
    original = annotated(golden, "textvqa")
    harness = documents(golden, "textvqa")
    first = side(original, [max(sorted(set(q.answers)), key=q.answers.count) for q in original], task="textvqa")
    second = side(harness, ["unreadable"] * len(harness), task="textvqa", protocol="lmms-eval")
    explanation = explain(load_task("textvqa"), first, second)
    found = {part.cause: part.num_questions for part in explanation.parts if part.num_questions}
    assert found["ocr"] > 15
    assert found["ocr"] + found["prompt"] + found["runtime"] == len(harness)  # two prompts are equal in both
    assert amounts(explanation)["ocr"] < 0


def test_questions_that_one_did_not_answer_are_the_subset() -> None:
    first = side(GQA, ["cat", "cat", "dog", "dog"], limit=True)
    second = side(GQA, ["cat", "cat", "dog", "dog", *["cat"] * 6])
    found = amounts(explain(load_task("gqa"), first, second))
    assert set(found) == {"subset"}
    assert close(found["subset"], 0.3)


def test_answers_that_differ_are_listed() -> None:
    task = load_task("gqa")
    first, second = side(GQA, FIRST), side(GQA, BETTER[:9])
    assert [difference.name for difference in differing_answers(task, first, second)] == ["4", "5", "6"]
    assert differing_answers(task, first, first) == ()


def test_what_cannot_be_compared_is_said() -> None:
    task = load_task("gqa")
    other = tuple(replace(question, key=question.id + "x") for question in GQA)
    with pytest.raises(ComparisonError, match="no question in common"):
        explain(task, side(GQA, FIRST), side(other, FIRST))
    with pytest.raises(ComparisonError, match="answers are to no question"):
        differing_answers(task, side(GQA, FIRST), Side(side(GQA, FIRST).file, GQA[:3]))
    with pytest.raises(ComparisonError, match=r"not scored here under llava-1\.5, but by a server"):
        explain(load_task("vqav2"), side(GQA, FIRST, task="vqav2"), side(GQA, BETTER, task="vqav2"))
