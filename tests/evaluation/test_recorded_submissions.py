"""Submission files and judge's files, byte for byte."""

import json
from pathlib import Path

import pytest

from support.recorded_evaluation import FILES, annotated, answers, answers_path, asked, benchmark, recorded, sets_of
from transformers_llava.evaluation.judges import (
    JUDGE_MAX_TOKENS,
    JUDGE_MODEL,
    JUDGE_TEMPERATURE,
    judge_messages,
    read_captions,
    read_reviews,
    relative_score,
    review_record,
    summarize_reviews,
    to_line,
)
from transformers_llava.evaluation.questions.question_lines import read_question_file
from transformers_llava.evaluation.scoring.pairing import pair_answers, read_answers
from transformers_llava.evaluation.submissions import (
    gqa_submission,
    gqa_submission_of_lines,
    mmvet_submission,
    mmvet_submission_of_lines,
    scienceqa_analysis,
    seed_bench_submission,
    vizwiz_submission,
    vqav2_submission,
    write_mmbench_submission,
)


def written(golden: Path, task: str, name: str) -> str | None:
    path = golden / "evaluation" / task / "expected" / name
    return path.read_bytes().decode() if path.exists() else None


def test_vqav2(golden: Path) -> None:
    questions = read_question_file(benchmark(golden, "vqav2") / "llava_vqav2_mscoco_test2015.jsonl")
    scores = recorded(golden, "vqav2", "expected/scores.json")
    for name in sets_of(golden, "vqav2"):
        file = read_answers(answers_path(golden, "vqav2", name))
        texts = pair_answers(questions, file.answers).texts
        submission = vqav2_submission(questions, texts)
        assert submission.content == written(golden, "vqav2", f"{name}.json"), name
        missing = sum(question.key not in texts for question in questions)
        assert submission.notes[0].startswith(f"{missing} of {len(questions)} questions have no answer")
        assert scores[name]["printed"][0].endswith(f"error_line: {file.num_malformed}")


def test_ids_of_another_type_are_reported_not_passed_over(golden: Path) -> None:
    questions = read_question_file(benchmark(golden, "vqav2") / "llava_vqav2_mscoco_test2015.jsonl")
    paired = pair_answers(questions, read_answers(answers_path(golden, "vqav2", "string_ids")).answers)
    assert len(paired.unknown_ids) > 0
    assert f"{len(paired.unknown_ids)} answers belong to no question" in paired.notes[-1]


def test_vizwiz(golden: Path) -> None:
    questions = asked(golden, "vizwiz")
    for name in sets_of(golden, "vizwiz"):
        file = read_answers(answers_path(golden, "vizwiz", name))
        submission = vizwiz_submission(questions, pair_answers(questions, file.answers).texts)
        expected = written(golden, "vizwiz", f"{name}.json")
        if expected is None:  # the original stops at a question without an answer
            assert name == "missing"
            assert "1 of 32 questions have no answer and are empty" in submission.notes[0]
        else:
            assert submission.content == expected
            assert file.num_malformed == (2 if name == "malformed_lines" else 0)


def test_gqa(golden: Path) -> None:
    questions = asked(golden, "gqa")
    for name in sets_of(golden, "gqa"):
        lines = read_answers(answers_path(golden, "gqa", name)).answers
        expected = written(golden, "gqa", f"{name}.json")
        assert gqa_submission_of_lines(lines).content == expected
        if name != "gaps":
            assert gqa_submission(questions, pair_answers(questions, lines).texts).content == expected


def test_mmvet(golden: Path) -> None:
    questions = asked(golden, "mmvet")
    for name in sets_of(golden, "mmvet"):
        lines = read_answers(answers_path(golden, "mmvet", name)).answers
        expected = written(golden, "mmvet", f"{name}.json")
        assert mmvet_submission_of_lines(lines).content == expected
        if name != "duplicates":
            assert mmvet_submission(questions, pair_answers(questions, lines).texts).content == expected


def test_seed_bench(golden: Path) -> None:
    document = json.loads((benchmark(golden, "seed_bench") / "SEED-Bench.json").read_text(encoding="utf-8"))
    questions = annotated(golden, "seed_bench")
    for name in sets_of(golden, "seed_bench"):
        submission = seed_bench_submission(document, answers(golden, "seed_bench", name, questions))
        expected = written(golden, "seed_bench", f"{name}.jsonl")
        assert expected is None or submission.content == expected
        assert bool(submission.notes) == (name in ("missing", "type_missing_entirely"))


def test_scienceqa(golden: Path) -> None:
    questions = annotated(golden, "scienceqa")
    num_equal = 0
    for name in sets_of(golden, "scienceqa"):
        lines = read_answers(answers_path(golden, "scienceqa", name)).answers
        texts = pair_answers(questions, lines).texts
        output, result = scienceqa_analysis(questions, texts, {line.question_id: line.prompt for line in lines})
        expected = written(golden, "scienceqa", f"{name}_output.jsonl")
        if expected is not None:
            num_equal += 1
            assert output.content == expected
            assert result.content == written(golden, "scienceqa", f"{name}_result.json")
    assert num_equal == 4


@pytest.mark.parametrize("task", ["mmbench", "mmbench_cn"])
def test_mmbench(task: str, golden: Path, tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    questions, table = asked(golden, task), benchmark(golden, task) / FILES[task]
    for name in sets_of(golden, task):
        path = tmp_path / f"{name}.xlsx"
        notes = write_mmbench_submission(table, questions, answers(golden, task, name, questions), path)
        book = openpyxl.load_workbook(path)
        rows = [[cell.value for cell in row] for row in book.active.iter_rows()]
        if name == "control_character":  # at which the original stops
            assert "control characters" in notes[0]
            continue
        expected = recorded(golden, task, f"expected/{name}_xlsx.json")
        assert book.sheetnames == expected["sheet_names"]
        assert rows[0] == expected["header"]
        assert [[_line_ends(value) for value in row] for row in rows[1:]] == [
            [_line_ends(value) for value in row] for row in expected["rows"]
        ]
        formulas = [cell.coordinate for row in book.active.iter_rows() for cell in row if cell.data_type == "f"]
        assert sorted(formulas) == sorted(expected["cells_stored_as_formula"])
        assert any("as formulas" in note for note in notes) == bool(formulas)


def _line_ends(value: object) -> object:
    return value.replace("\r\n", "\n") if isinstance(value, str) else value


@pytest.mark.parametrize("name", ["plain", "odd"])
def test_the_judge_is_asked_and_read_as_in_the_original(name: str, golden: Path) -> None:
    folder = benchmark(golden, "llava_bench")
    questions, captions = asked(golden, "llava_bench"), read_captions(folder / "context.jsonl")
    expected = recorded(golden, "llava_bench", f"expected/{name}_judge_requests.json")
    reviews = written(golden, "llava_bench", f"{name}_reviews.jsonl")
    assert reviews is not None
    lines = read_answers(answers_path(golden, "llava_bench", name)).answers
    texts = pair_answers(questions, lines).texts
    ours = ""
    for number, (question, request, reply) in enumerate(
        zip(questions, expected["requests"], expected["judge_replies"], strict=True), start=1
    ):
        content = request["messages"][1]["content"]
        reference = content.split("[Assistant 1]\n")[1].split("\n\n[End of Assistant 1]")[0]
        caption = captions[str(question.image)]
        assert judge_messages(question, caption, reference, texts[question.key]) == request["messages"]
        line = json.loads(reviews.splitlines()[number - 1])
        ours += to_line(
            review_record(
                question, reply, number=number, reference_id=line["answer1_id"], answer_id=line["answer2_id"]
            )
        )
    assert ours == reviews
    assert expected["other_arguments"] == {
        "model": JUDGE_MODEL,
        "temperature": JUDGE_TEMPERATURE,
        "max_tokens": JUDGE_MAX_TOKENS,
    }


@pytest.mark.parametrize("name", ["plain", "odd", "shuffled_short"])
def test_reviews_are_summed_up_as_in_the_original(name: str, golden: Path) -> None:
    reviews = read_reviews(golden / "evaluation" / "llava_bench" / "expected" / f"{name}_reviews.jsonl")
    printed = recorded(golden, "llava_bench", "expected/scores.json")[name]["printed"]
    as_original = summarize_reviews(reviews, with_not_read=True)
    lines = [f"{part.name} {part.relative} {part.reference} {part.model}" for part in as_original]
    assert lines == printed[1:-1]
    ours = {part.name: part for part in summarize_reviews(reviews)}
    not_read = sum(not review.is_read for review in reviews)
    assert ours["all"].num_not_read == not_read
    assert ours["all"].num_reviews == len(reviews) - not_read
    if not_read:
        assert ours["all"].model != as_original[0].model
    assert relative_score(reviews).value == pytest.approx(ours["all"].relative, abs=0.1)


def test_review_files_of_any_age_are_summed_up(golden: Path) -> None:
    folder = golden / "evaluation" / "llava_bench" / "reviews" / "dir"
    summaries = recorded(golden, "llava_bench", "expected/scores.json")["summaries"]

    def lines(name: str, ignored: tuple[int, ...] = ()) -> list[str]:
        parts = summarize_reviews(read_reviews(folder / f"{name}.jsonl"), ignored=ignored, with_not_read=True)
        return [f"{part.name} {part.relative} {part.reference} {part.model}" for part in parts]

    printed = summaries["dir"]["printed"]
    for name in ("review_a", "reviews_c"):
        start = printed.index(name) + 1
        ours = lines(name)
        assert printed[start : start + len(ours)] == ours
    assert lines("gpt4_text_b_0613") == summaries["dir_select_b"]["printed"][1:-1]
    ignoring = summaries["files_ignore_0_3"]["printed"]
    assert [*lines("review_a", (0, 3)), *lines("reviews_c", (0, 3))] == [line for line in ignoring if " " in line]
    zero = summarize_reviews(read_reviews(folder / "zero.jsonl"))
    assert [(part.relative, part.model) for part in zero] == [(None, 50.0), (None, 50.0)]
