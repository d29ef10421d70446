"""Normalisation of single answers against thousands of recorded ones."""

import csv
from pathlib import Path

import pytest

from support.recorded_evaluation import recorded, rows_of
from transformers_llava.evaluation.judges import parse_judge_reply
from transformers_llava.evaluation.questions.annotations import seed_key, textvqa_question_of
from transformers_llava.evaluation.questions.multiple_choice import read_mmbench
from transformers_llava.evaluation.questions.question import Answer, Question
from transformers_llava.evaluation.questions.question_lines import QuestionsError
from transformers_llava.evaluation.scoring.answer_normalization import (
    normalize_vqa_answer,
    remove_punctuation,
    replace_words,
    split_words,
)
from transformers_llava.evaluation.scoring.pairing import pair_answers
from transformers_llava.evaluation.scoring.pope import parse_pope_answer, score_pope
from transformers_llava.evaluation.scoring.scienceqa import option_index, parse_scienceqa_answer
from transformers_llava.evaluation.scoring.seed_bench import score_seed_bench
from transformers_llava.evaluation.scoring.soft_accuracy import textvqa_score


def test_answers_are_normalized_as_by_the_original(golden: Path) -> None:
    rows = rows_of(golden, "m4c_answer_processor.json")
    assert len(rows) >= 3000
    assert [(text, normalize_vqa_answer(text)) for text, _ in rows] == [tuple(row) for row in rows]


def test_each_stage_is_the_originals(golden: Path) -> None:
    for text, words, punctuation, digits in rows_of(golden, "m4c_stages.json"):
        assert (split_words(text), remove_punctuation(text), replace_words(text)) == (words, punctuation, digits), text


def test_textvqa_scores_equal_the_recorded_floats(golden: Path) -> None:
    rows = rows_of(golden, "textvqa_accuracy.json")
    scores = [textvqa_score(prediction, people) for prediction, people, _ in rows]
    assert scores == [score for *_, score in rows]
    totals = recorded(golden, "normalisation", "textvqa_accuracy_totals.json")
    assert sum(scores) / len(scores) == totals["mean_of_all_rows"]


def test_the_question_is_found_in_the_prompt_or_refused_as_by_the_original(golden: Path) -> None:
    rows = recorded(golden, "normalisation", "textvqa_prompt_to_question.json")
    assert rows
    for row in rows:
        if "error" in row:
            with pytest.raises(QuestionsError, match="no form"):
                textvqa_question_of(row["prompt"])
        else:
            assert textvqa_question_of(row["prompt"]) == row["question"]


def test_pope_answers_are_read_and_totalled_as_by_the_original(golden: Path) -> None:
    rows = rows_of(golden, "pope_parsing.json")
    assert [parse_pope_answer(text) for text, _, _ in rows] == [parsed for _, parsed, _ in rows]
    questions = [Question(i, i, "", answers=(label,), category="all") for i, (_, _, label) in enumerate(rows)]
    values = score_pope(questions, {i: text for i, (text, _, _) in enumerate(rows)}).values
    totals = recorded(golden, "normalisation", "pope_parsing_totals.json")
    for name in ("accuracy", "precision", "recall", "f1", "yes_ratio"):
        assert values[f"all/{name}"] == totals[name]


def test_scienceqa_letters_are_read_as_by_the_original(golden: Path) -> None:
    for text, num_options, truth, _, parsed, index, is_right in rows_of(golden, "scienceqa_parsing.json"):
        assert parse_scienceqa_answer(text) == parsed
        assert option_index(parsed, num_options) == index
        assert (index == truth) == is_right


def test_seed_answers_match_as_in_the_original(golden: Path) -> None:
    for question_id, answer_id, truth, text, outcome in rows_of(golden, "seed_match.json"):
        key = seed_key(question_id)
        questions = (Question(key, key, "", answers=(truth,), category="type", subset="image"),)
        texts = pair_answers(questions, [Answer(answer_id, text)]).texts
        verdict = score_seed_bench(questions, texts).verdicts[0]
        ours = "answer not found" if verdict.answer is None else "correct" if verdict.score else "wrong"
        assert ours == outcome, (answer_id, question_id, text)


def test_judge_replies_are_read_as_by_the_original(golden: Path) -> None:
    rows = recorded(golden, "normalisation", "judge_score_parsing.json")
    assert rows
    for row in rows:
        scores = [score if abs(score) < 1e9 else str(score) for score in parse_judge_reply(row["reply"])]
        assert scores == row["scores"], row["reply"]


def test_options_of_mmbench_end_where_the_originals_do(golden: Path, tmp_path: Path) -> None:
    rows = rows_of(golden, "mmbench_options.json")
    for number, (cells, hint, options, hint_is_absent) in enumerate(rows):
        table = tmp_path / f"{number}.tsv"
        header = ["index", "question", "hint", "A", "B", "C", "D", "image"]
        # A second row of texts keeps pandas from taking a column for numbers, as in the recording.
        lines = [header, ["1", "q", hint, *cells, "aW1n"], ["2", "q", "h", "w", "x", "y", "z", "aW1n"]]
        with table.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="\t", lineterminator="\n").writerows(lines)
        question = read_mmbench(table)[0]
        assert (list(question.options), question.hint is None) == (options, hint_is_absent), cells
