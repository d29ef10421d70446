"""Every difference from the original that docs/reference/evaluation_differences.md lists happens as it says."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from support.recorded_evaluation import FILES, annotated, answers, answers_path, asked, benchmark, recorded
from transformers_llava.evaluation.judges import judge_messages, read_reviews, summarize_reviews
from transformers_llava.evaluation.prompts import mmbench_text
from transformers_llava.evaluation.questions.annotations import annotate_seed_bench, wording_of
from transformers_llava.evaluation.questions.multiple_choice import read_mmbench
from transformers_llava.evaluation.scoring.mme import score_mme
from transformers_llava.evaluation.scoring.pairing import PairedAnswers, pair_answers, read_answers
from transformers_llava.evaluation.scoring.pope import score_pope
from transformers_llava.evaluation.scoring.scienceqa import score_scienceqa
from transformers_llava.evaluation.scoring.seed_bench import score_seed_bench
from transformers_llava.evaluation.scoring.soft_accuracy import score_textvqa
from transformers_llava.evaluation.scoring.verdicts import TaskResult
from transformers_llava.evaluation.submissions import (
    seed_bench_submission,
    vizwiz_submission,
    write_mmbench_submission,
)


PAGE = Path(__file__).parents[2] / "docs" / "reference" / "evaluation_differences.md"
SCORE = {
    "pope": score_pope,
    "textvqa": score_textvqa,
    "scienceqa": score_scienceqa,
    "seed_bench": score_seed_bench,
    "mme": score_mme,
}


def ours(golden: Path, task: str, name: str) -> TaskResult:
    questions = annotated(golden, task)
    return SCORE[task](questions, answers(golden, task, name, questions))


def theirs(golden: Path, task: str, name: str) -> dict:
    return recorded(golden, task, "expected/scores.json")[name]


def paired(golden: Path, task: str, name: str) -> PairedAnswers:
    return pair_answers(
        asked(golden, task), read_answers(answers_path(golden, task, name)).answers, wording=wording_of(task)
    )


def pope_by_line(golden: Path, _: Path) -> None:
    shuffled, plain = ours(golden, "pope", "shuffled"), ours(golden, "pope", "plain")
    assert shuffled.verdicts == plain.verdicts
    assert theirs(golden, "pope", "shuffled")["per_category"] != theirs(golden, "pope", "plain")["per_category"]
    assert theirs(golden, "pope", "duplicated_line")["per_category"]["adversarial"]["accuracy"] == 0.3
    assert ours(golden, "pope", "duplicated_line").values["adversarial/accuracy"] == 0.85


def pope_nobody_says_yes(golden: Path, _: Path) -> None:
    assert theirs(golden, "pope", "all_no")["error"]["type"] == "ZeroDivisionError"
    result = ours(golden, "pope", "all_no")
    names = ("precision", "f1", "recall", "accuracy")
    assert [result.values[f"random/{name}"] for name in names] == [None, 0.0, 0.0, 0.5]
    assert "random/precision is not defined for these answers." in result.notes


def pope_split_without_answers(golden: Path, _: Path) -> None:
    assert theirs(golden, "pope", "one_split_only")["error"]["type"] == "ZeroDivisionError"
    values = ours(golden, "pope", "one_split_only").values
    assert values["adversarial/f1"] == 0.9
    assert (values["popular/f1"], values["random/f1"], values["f1"]) == (None, None, None)


def textvqa_lines(golden: Path, _: Path) -> None:
    result = ours(golden, "textvqa", "subset_with_duplicates")
    assert "Samples: 24" in theirs(golden, "textvqa", "subset_with_duplicates")["printed"]
    assert result.num_questions == 30
    assert paired(golden, "textvqa", "subset_with_duplicates").num_replaced > 0
    right = sum(verdict.score for verdict in result.verdicts)
    assert result.values["accuracy"] == pytest.approx(100 * right / 30)


def textvqa_unknown_image(golden: Path, _: Path) -> None:
    assert theirs(golden, "textvqa", "unknown_image")["error"]["type"] == "KeyError"
    assert paired(golden, "textvqa", "unknown_image").unknown_ids == ("ffffffffffffffff",)


def textvqa_no_answers(golden: Path, _: Path) -> None:
    assert theirs(golden, "textvqa", "empty_file")["error"]["type"] == "ZeroDivisionError"
    assert ours(golden, "textvqa", "empty_file").values == {"accuracy": None}


def scienceqa_missing_answer(golden: Path, _: Path) -> None:
    assert theirs(golden, "scienceqa", "missing")["scores"]["img_accuracy"] == 84.0
    result = ours(golden, "scienceqa", "missing")
    assert round(result.values["image_accuracy"] or 0, 2) == 77.78
    assert "questions have no answer and count as wrong" in result.notes[0]


def scienceqa_prompts_without_marker(golden: Path, _: Path) -> None:
    assert theirs(golden, "scienceqa", "no_image_prompts")["error"]["type"] == "ZeroDivisionError"
    assert ours(golden, "scienceqa", "no_image_prompts").values == ours(golden, "scienceqa", "plain").values


def seed_type_without_hits(golden: Path, _: Path) -> None:
    assert theirs(golden, "seed_bench", "type_without_hits")["error"]["type"] == "KeyError"
    assert 0.0 in ours(golden, "seed_bench", "type_without_hits").values.values()


def seed_missing_answer(golden: Path, _: Path) -> None:
    assert theirs(golden, "seed_bench", "missing")["error"]["type"] == "KeyError"
    questions = annotated(golden, "seed_bench")
    texts = answers(golden, "seed_bench", "missing", questions)
    missing = len(questions) - len(texts)
    assert ours(golden, "seed_bench", "missing").num_unanswered == missing > 0
    document = json.loads((benchmark(golden, "seed_bench") / "SEED-Bench.json").read_text(encoding="utf-8"))
    submission = seed_bench_submission(document, texts)
    assert submission.content.count("\n") == len(texts)
    assert f"{missing} of {len(questions)} questions have no answer and are left out" in submission.notes[0]


def seed_images_only(golden: Path, folder: Path) -> None:
    assert theirs(golden, "seed_bench", "plain_on_image_only_annotation")["error"]["type"] == "ZeroDivisionError"
    document = json.loads((benchmark(golden, "seed_bench") / "SEED-Bench.json").read_text(encoding="utf-8"))
    document["questions"] = [question for question in document["questions"] if question["data_type"] == "image"]
    (folder / "SEED-Bench.json").write_text(json.dumps(document))
    ids = {int(question["question_id"]) for question in document["questions"]}
    questions = annotate_seed_bench(
        [question for question in asked(golden, "seed_bench") if question.id in ids], folder / "SEED-Bench.json"
    )
    values = score_seed_bench(questions, answers(golden, "seed_bench", "plain", questions)).values
    assert values["image accuracy"] == values["Total accuracy"] == 75.0
    assert "video accuracy" not in values


def mme_line_breaks(golden: Path, _: Path) -> None:
    expected = recorded(golden, "mme", "expected/official_rule.json")["sets"]["multi_line"]
    assert expected["error"]["type"] == "ValueError"
    assert [verdict.parsed for verdict in ours(golden, "mme", "multi_line").verdicts] == expected["parsed"]


def mme_neither_yes_nor_no(golden: Path, _: Path) -> None:
    expected = recorded(golden, "mme", "expected/official_rule.json")["sets"]["category_without_yes_or_no"]
    assert expected["error"]["type"] == "ValueError"
    assert 0.0 in ours(golden, "mme", "category_without_yes_or_no").values.values()


def vizwiz_missing_answer(golden: Path, _: Path) -> None:
    assert theirs(golden, "vizwiz", "missing")["error"]["type"] == "AssertionError"
    submission = vizwiz_submission(asked(golden, "vizwiz"), paired(golden, "vizwiz", "missing").texts)
    assert sum(row["answer"] == "" for row in json.loads(submission.content)) >= 1
    assert "1 of 32 questions have no answer and are empty" in submission.notes[0]


def damaged_lines(_: Path, folder: Path) -> None:
    path = folder / "answers.jsonl"
    path.write_text('{"question_id": 1, "text": "yes"}\n{"question_id": 2, "te\n\n[]\n{"question_id": 3}\n')
    file = read_answers(path)
    assert (len(file.answers), file.num_malformed) == (1, 4)
    assert file.notes == ("4 lines of the answers file are no answers and were not read.",)


def mmbench_control_characters(golden: Path, folder: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    assert theirs(golden, "mmbench", "control_character")["error"]["type"] == "IllegalCharacterError"
    questions, table = asked(golden, "mmbench"), benchmark(golden, "mmbench") / FILES["mmbench"]
    texts = answers(golden, "mmbench", "control_character", questions)
    notes = write_mmbench_submission(table, questions, texts, folder / "a.xlsx")
    assert "1 answers had control characters" in notes[0]
    cells = [row[6].value for row in openpyxl.load_workbook(folder / "a.xlsx").active.iter_rows(min_row=2)]
    assert "AB" in cells


def mmbench_number_columns(golden: Path, folder: Path) -> None:
    cases = recorded(golden, "normalisation", "mmbench_numeric_columns.json")
    for case in cases:
        table = folder / "table.tsv"
        rows = [f"{i}\tq\t\ta\tb\tc\t{cell}\taW1n" for i, cell in enumerate(case["column_D_cells"])]
        table.write_text("\n".join(["index\tquestion\thint\tA\tB\tC\tD\timage", *rows]) + "\n")
        for question, row, cell in zip(read_mmbench(table), case["rows"], case["column_D_cells"], strict=True):
            text = "q\nA. a\nB. b\nC. c" + (f"\nD. {cell}" if cell else "")
            assert mmbench_text(question) == text == row.get("joined", text)
    assert sum("error" in row for case in cases for row in case["rows"]) > 5


def judge_reply_without_scores(golden: Path, _: Path) -> None:
    reviews = read_reviews(golden / "evaluation" / "llava_bench" / "expected" / "odd_reviews.jsonl")
    original, better = summarize_reviews(reviews, with_not_read=True)[0], summarize_reviews(reviews)[0]
    assert f"all {original.relative} {original.reference} {original.model}" == "all 71.6 29.4 21.0"
    assert better.num_not_read == sum(review.scores == (-1, -1) for review in reviews) > 0
    assert better.reference > original.reference


def judge_reference_zero(golden: Path, _: Path) -> None:
    summaries = recorded(golden, "llava_bench", "expected/scores.json")["summaries"]
    assert summaries["first_mean_zero"]["error"]["type"] == "ZeroDivisionError"
    reviews = read_reviews(golden / "evaluation" / "llava_bench" / "reviews" / "dir" / "zero.jsonl")
    assert [part.relative for part in summarize_reviews(reviews)] == [None, None]


def judge_by_line(golden: Path, _: Path) -> None:
    texts = paired(golden, "llava_bench", "shuffled_short").texts
    pairs = dict(theirs(golden, "llava_bench", "shuffled_short")["pairs"])
    questions = {question.text: question for question in asked(golden, "llava_bench") if question.key in texts}
    assert questions
    moved = [text for text, question in questions.items() if text in pairs and pairs[text] != texts[question.key]]
    assert moved
    question = questions[moved[0]]
    content = judge_messages(question, "caption", "reference", texts[question.key])[1]["content"]
    assert f"[Assistant 2]\n{texts[question.key]}\n" in content


def ids_of_another_type(golden: Path, _: Path) -> None:
    result = paired(golden, "vqav2", "string_ids")
    assert result.unknown_ids
    assert all(isinstance(key, str) for key in result.unknown_ids)
    assert "belong to no question" in result.notes[-1]


def empty_answers(golden: Path, _: Path) -> None:
    rows = theirs(golden, "pope", "adversarial")["per_question"]
    empty = [row["question_id"] for row in rows if not row["text"].strip()]
    result = ours(golden, "pope", "adversarial")
    assert {verdict.parsed for verdict in result.verdicts if verdict.key in empty} == {"yes"}
    assert result.num_empty == len(empty) > 0
    assert f"{len(empty)} of 60 answers are empty" in result.notes[0]


def mmbench_formulas(golden: Path, folder: Path) -> None:
    pytest.importorskip("openpyxl")
    questions, table = asked(golden, "mmbench"), benchmark(golden, "mmbench") / FILES["mmbench"]
    notes = write_mmbench_submission(table, questions, {questions[0].key: "=A"}, folder / "a.xlsx")
    assert notes[-1].startswith("1 answers begin with '='")


def mmbench_last_round(golden: Path, _: Path) -> None:
    result = paired(golden, "mmbench", "all_rounds")
    assert "answers were replaced by a later answer" in result.notes[0]


TESTS: dict[str, Callable[[Path, Path], None]] = {
    test.__name__: test
    for test in (
        pope_by_line,
        pope_nobody_says_yes,
        pope_split_without_answers,
        textvqa_lines,
        textvqa_unknown_image,
        textvqa_no_answers,
        scienceqa_missing_answer,
        scienceqa_prompts_without_marker,
        seed_type_without_hits,
        seed_missing_answer,
        seed_images_only,
        mme_line_breaks,
        mme_neither_yes_nor_no,
        vizwiz_missing_answer,
        damaged_lines,
        mmbench_control_characters,
        mmbench_number_columns,
        judge_reply_without_scores,
        judge_reference_zero,
        judge_by_line,
        ids_of_another_type,
        empty_answers,
        mmbench_formulas,
        mmbench_last_round,
    )
}


def test_the_page_lists_exactly_what_is_tested() -> None:
    assert re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.M) == list(TESTS)


@pytest.mark.parametrize("name", TESTS)
def test_difference(name: str, golden: Path, tmp_path: Path) -> None:
    TESTS[name](golden, tmp_path)


def test_unanswered_questions_of_mme_are_counted(golden: Path) -> None:
    questions = annotated(golden, "mme")
    texts = dict(answers(golden, "mme", "plain", questions))
    whole = score_mme(questions, texts)
    del texts[questions[0].key]
    result = score_mme(questions, texts)
    assert result.num_unanswered == 1
    assert "1 of 56 questions have no answer" in result.notes[0]
    assert result.values["Perception"] <= whole.values["Perception"]
