"""Scores and verdicts against those that the original scripts made of every recorded answers file."""

from pathlib import Path

import pytest

from support.recorded_evaluation import annotated, answers, answers_path, recorded, sets_of
from transformers_llava.evaluation.questions.annotations import textvqa_question_of, wording_of
from transformers_llava.evaluation.questions.question import Question
from transformers_llava.evaluation.scoring.mme import score_mme
from transformers_llava.evaluation.scoring.pairing import pair_answers, read_answers
from transformers_llava.evaluation.scoring.pope import score_pope
from transformers_llava.evaluation.scoring.scienceqa import score_scienceqa
from transformers_llava.evaluation.scoring.seed_bench import score_seed_bench
from transformers_llava.evaluation.scoring.soft_accuracy import score_textvqa


POPE_NAMES = ("accuracy", "f1", "precision", "recall", "yes_ratio")


def test_pope_equals_the_original_wherever_its_lines_pair(golden: Path) -> None:
    questions = annotated(golden, "pope")
    scores = recorded(golden, "pope", "expected/scores.json")
    equal = []
    for name in sets_of(golden, "pope"):
        result = score_pope(questions, answers(golden, "pope", name, questions))
        parsed = {row["question_id"]: row["parsed"] for row in scores[name]["per_question"]}
        ours = {verdict.key: verdict.parsed for verdict in result.verdicts if verdict.answer is not None}
        assert ours == parsed or name == "duplicated_line", name
        for split, expected in scores[name].get("per_category", {}).items():
            ours_of_split = [result.values[f"{split}/{value}"] for value in POPE_NAMES]
            if ours_of_split == [expected[value] for value in POPE_NAMES]:
                equal.append((name, split))
    whole = {"adversarial", "all_yes", "plain", "sentences"}
    assert {(name, split) for name in whole for split in ("adversarial", "popular", "random")} <= set(equal)
    assert ("missing_lines", "random") in equal
    assert ("duplicated_line", "popular") in equal
    assert ("one_split_only", "adversarial") in equal


def test_pope_pairs_by_id_where_the_original_pairs_by_line(golden: Path) -> None:
    questions = annotated(golden, "pope")
    plain, shuffled, doubled, short, partial, all_no = (
        score_pope(questions, answers(golden, "pope", name, questions))
        for name in ("plain", "shuffled", "duplicated_line", "missing_lines", "one_split_only", "all_no")
    )
    assert shuffled.values == plain.values
    changed = [ours.key for ours, other in zip(doubled.verdicts, plain.verdicts) if ours != other]
    assert len(changed) == 1  # the line stands twice with two answers, of which the later counts
    assert (short.num_unanswered, short.num_questions) == (3, 60)
    assert "3 of 60 questions have no answer" in short.notes[0]
    assert partial.values["f1"] is None
    assert partial.values["popular/accuracy"] is None
    assert all_no.values["adversarial/precision"] is None
    assert (all_no.values["adversarial/f1"], all_no.values["adversarial/accuracy"]) == (0.0, 0.5)


def test_the_mean_of_the_three_f1_is_what_is_reported(golden: Path) -> None:
    questions = annotated(golden, "pope")
    result = score_pope(questions, answers(golden, "pope", "plain", questions))
    splits = recorded(golden, "pope", "expected/scores.json")["plain"]["per_category"]
    assert result.scores[0].name == "f1"
    assert result.scores[0].value == pytest.approx(sum(split["f1"] for split in splits.values()) / 3, abs=1e-15)


@pytest.mark.parametrize("name", ["adversarial", "majority", "noisy", "plain"])
def test_textvqa_equals_the_original(name: str, golden: Path) -> None:
    questions = annotated(golden, "textvqa")
    expected = recorded(golden, "textvqa", "expected/scores.json")[name]
    result = score_textvqa(questions, answers(golden, "textvqa", name, questions))
    assert [v.score for v in result.verdicts] == [row["score"] for row in expected["per_question"]]
    assert [v.parsed for v in result.verdicts] == [row["processed"] for row in expected["per_question"]]
    assert result.values["accuracy"] == 100.0 * expected["accuracy_unrounded"]
    assert f"Accuracy: {result.values['accuracy']:.2f}%" in expected["printed"]


def test_textvqa_counts_what_the_original_passes_over_or_stops_at(golden: Path) -> None:
    questions = annotated(golden, "textvqa")
    expected = recorded(golden, "textvqa", "expected/scores.json")
    empty = score_textvqa(questions, answers(golden, "textvqa", "empty_file", questions))
    assert (empty.values["accuracy"], empty.num_unanswered) == (None, 30)
    unknown = pair_answers(
        questions,
        read_answers(answers_path(golden, "textvqa", "unknown_image")).answers,
        wording=wording_of("textvqa"),
    )
    assert "ffffffffffffffff" in unknown.unknown_ids
    # A subset with doubled lines: the original averages the lines that are there.
    paired = pair_answers(
        questions,
        read_answers(answers_path(golden, "textvqa", "subset_with_duplicates")).answers,
        wording=wording_of("textvqa"),
    )
    subset = score_textvqa(questions, paired.texts)
    lines = expected["subset_with_duplicates"]["per_question"]
    assert len(paired.texts) + paired.num_replaced == len(lines) == 24
    scores = {(row["question_id"], row["question"], row["prediction"]): row["score"] for row in lines}
    by_key = {question.key: question for question in questions}
    for verdict in subset.verdicts:
        question = by_key[verdict.key]
        if verdict.answer is not None:
            assert scores[question.id, textvqa_question_of(question.text), verdict.answer] == verdict.score
    assert subset.num_unanswered == 30 - len(paired.texts)


@pytest.mark.parametrize("name", ["adversarial", "missing", "noisy", "plain"])
def test_scienceqa_equals_the_original(name: str, golden: Path) -> None:
    questions = annotated(golden, "scienceqa")
    expected = recorded(golden, "scienceqa", "expected/scores.json")[name]
    result = score_scienceqa(questions, answers(golden, "scienceqa", name, questions))
    counts = recorded(golden, "scienceqa", f"expected/{name}_result.json")
    assert result.values["accuracy"] == counts["acc"]
    assert sum(verdict.score for verdict in result.verdicts) == counts["correct"]
    if name == "missing":  # whose two unanswered questions with an image the original leaves out of the share
        assert expected["scores"]["img_accuracy"] == pytest.approx(100 * 21 / 25)
        assert result.values["image_accuracy"] == pytest.approx(100 * 21 / 27)
    else:
        assert f"{result.values['image_accuracy']:.2f}%" in expected["printed"][0]


def test_scienceqa_knows_which_questions_have_an_image_without_the_prompts(golden: Path) -> None:
    questions = annotated(golden, "scienceqa")
    values = score_scienceqa(questions, answers(golden, "scienceqa", "no_image_prompts", questions)).values
    assert recorded(golden, "scienceqa", "expected/scores.json")["no_image_prompts"]["error"]
    assert values == score_scienceqa(questions, answers(golden, "scienceqa", "plain", questions)).values


@pytest.mark.parametrize("name", ["adversarial", "missing", "noisy", "plain"])
def test_seed_bench_equals_the_original(name: str, golden: Path) -> None:
    questions = annotated(golden, "seed_bench")
    expected = recorded(golden, "seed_bench", "expected/scores.json")[name]
    result = score_seed_bench(questions, answers(golden, "seed_bench", name, questions))
    assert {key: round(value or 0, 2) for key, value in result.values.items()} == expected["scores"]
    names = [score.name for score in result.scores][3:]
    assert [line.split(":")[0] for line in expected["printed"]][: len(names)] == names


def test_seed_bench_scores_types_without_hits_where_the_original_stops(golden: Path) -> None:
    questions = annotated(golden, "seed_bench")
    scores = recorded(golden, "seed_bench", "expected/scores.json")
    seen = set()
    for name in ("type_missing_entirely", "type_without_hits"):
        assert scores[name]["error"]
        result = score_seed_bench(questions, answers(golden, "seed_bench", name, questions))
        seen |= set(result.values.values())
        assert result.values["Total accuracy"] is not None
    assert {None, 0.0} <= seen  # a type nobody was asked about, and one where all answers are wrong


@pytest.mark.parametrize("name", ["adversarial", "category_without_yes_or_no", "multi_line", "noisy", "plain"])
def test_mme_equals_the_published_rule(name: str, golden: Path) -> None:
    questions = annotated(golden, "mme")
    expected = recorded(golden, "mme", "expected/official_rule.json")["sets"][name]
    result = score_mme(questions, answers(golden, "mme", name, questions))
    assert [verdict.parsed for verdict in result.verdicts] == expected["parsed"]
    if expected["error"]:
        assert result.num_unanswered == 0
        assert None not in result.values.values()
        return
    assert {key: result.values[f"category/{key}"] for key in expected["per_category"]} == expected["per_category"]
    assert {key: result.values[key] for key in expected["totals"]} == expected["totals"]


def test_every_answers_file_pairs_with_its_questions(golden: Path) -> None:
    for task in ("pope", "textvqa", "scienceqa", "seed_bench", "mme", "vqav2", "gqa", "vizwiz", "mmvet"):
        questions: tuple[Question, ...] = annotated(golden, task)
        file = read_answers(answers_path(golden, task, "plain"))
        paired = pair_answers(questions, file.answers)
        assert (len(paired.texts), paired.num_replaced, paired.unknown_ids) == (len(questions), 0, ()), task
        assert file.num_malformed == 0
