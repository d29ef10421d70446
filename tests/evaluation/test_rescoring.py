"""Predictions are scored again without a model: the same numbers, and other questions or answers are named."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from support.recorded_evaluation import answers, answers_path, asked, benchmark
from transformers_llava.artifacts.evaluation_files.predictions import (
    Prediction,
    PredictionsError,
    PredictionsHeader,
    header_line,
    prediction_line,
    text_digest,
)
from transformers_llava.cli import main as cli
from transformers_llava.evaluation.asking import question_turn, read_questions
from transformers_llava.evaluation.rescoring import find_predictions, questions_digest, rescore
from transformers_llava.evaluation.tasks import load_task


def write_predictions(golden: Path, folder: Path, name: str, *, limit: int | None = None, drop: int = 0) -> Path:
    """The recorded answers `plain` of a task as a predictions file, its benchmark below `folder`."""
    task = load_task(name)
    (folder / task.folder).symlink_to(benchmark(golden, name))
    questions = read_questions(task, "llava-1.5", folder, annotated=False)
    texts = answers(golden, name, "plain", asked(golden, name))
    chosen = questions[:limit]
    header = PredictionsHeader(
        task=name,
        protocol="llava-1.5",
        protocol_version=task.protocol("llava-1.5").version,
        model="tiny",
        model_digest="a" * 64,
        model_revision=None,
        chat_template="b" * 64,
        decoding=task.protocol("llava-1.5").decoding,
        versions={},
        data_digest=questions_digest(task, "llava-1.5", questions),
        num_questions=len(chosen),
        num_available=len(questions),
    )
    path = folder / "out" / "predictions" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        prediction_line(
            Prediction(
                question.key,
                text_digest(question_turn(task, "llava-1.5", question)),
                None,
                (1, 2),
                texts[question.key],
                "end",
            )
        )
        for question in chosen[: len(chosen) - drop]
    ]
    path.write_text(header_line(replace(header, decoding=dict(header.decoding))) + "".join(lines))
    return path


@pytest.mark.parametrize(
    ("name", "headline"),
    [
        ("pope", 0.8473684210526317),
        ("textvqa", 78.99999999999999),
        ("scienceqa", 800 / 9),
        ("seed_bench", 700 / 9),
        ("mme", 1425.0),
    ],
)
def test_the_headline_is_the_recorded_number(name: str, headline: float, golden: Path, tmp_path: Path) -> None:
    path = write_predictions(golden, tmp_path, name)
    result, record = rescore(path, tmp_path)
    assert result is not None
    assert record.scores[0].name == record.headline == load_task(name).protocol("llava-1.5").headline
    assert record.scores[0].value == pytest.approx(headline, abs=1e-12)
    low, high = record.scores[0].low, record.scores[0].high
    assert low is not None
    assert high is not None
    assert low <= headline <= high
    assert not record.is_partial


def test_what_a_server_scores_has_no_score_and_says_why(golden: Path, tmp_path: Path) -> None:
    result, record = rescore(write_predictions(golden, tmp_path, "vqav2"), tmp_path)
    assert result is None
    assert (record.scores, record.headline) == ((), None)
    assert "not scored here, but by a server" in record.notes[-1]


def test_a_limit_and_an_interruption_are_told_apart(golden: Path, tmp_path: Path) -> None:
    limited, stopped = tmp_path / "limited", tmp_path / "stopped"
    limited.mkdir()
    stopped.mkdir()
    few, record = rescore(write_predictions(golden, limited, "pope", limit=20), limited)
    assert few is not None
    assert (few.num_questions, few.num_unanswered, record.is_partial) == (20, 0, True)
    assert "partial: 20 of 60" in record.notes[0]
    cut, record = rescore(write_predictions(golden, stopped, "pope", drop=5), stopped)
    assert cut is not None
    assert (cut.num_questions, cut.num_unanswered, record.num_unanswered, record.is_partial) == (60, 5, 5, True)
    assert "interrupted: 5 of 60" in record.notes[0]


def test_other_questions_or_answers_to_none_are_named(golden: Path, tmp_path: Path) -> None:
    path = write_predictions(golden, tmp_path, "pope")
    content = path.read_text()
    path.write_text(content.replace('"key": 7,', '"key": 700,'))
    with pytest.raises(PredictionsError, match="answers 1 questions that pope has not, such as '700'"):
        rescore(path, tmp_path)
    path.write_text(content)
    questions = (benchmark(golden, "pope") / "llava_pope_test.jsonl").read_text()
    (tmp_path / "pope").unlink()
    (tmp_path / "pope").mkdir()
    (tmp_path / "pope" / "llava_pope_test.jsonl").write_text(questions.replace("fountain", "mountain"))
    with pytest.raises(PredictionsError, match="answers other questions of pope than those in"):
        rescore(path, tmp_path)
    with pytest.raises(PredictionsError, match="no predictions file"):
        find_predictions(tmp_path)


def test_the_command_scores_again_to_the_same_bytes(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_predictions(golden, tmp_path, "pope")
    write_predictions(golden, tmp_path, "mmvet")
    out = tmp_path / "out"
    assert cli.main(["evaluate", "--rescore", str(out), "--data_root", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "pope (llava-1.5, haotian-liu/LLaVA@c121f04): 60 questions" in printed
    assert "  f1: 0.8474  [" in printed
    assert "mmvet" in printed
    content = (out / "evaluation.json").read_bytes()
    assert [result["task"] for result in json.loads(content)["results"]] == ["mmvet", "pope"]
    assert cli.main(["evaluate", "--rescore", str(out), "--data_root", str(tmp_path)]) == 0
    assert (out / "evaluation.json").read_bytes() == content


def test_the_command_scores_an_answers_file_of_the_original(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "pope").symlink_to(benchmark(golden, "pope"))
    file = answers_path(golden, "pope", "duplicated_line")
    command = ["evaluate", "--answers", str(file), "--data_root", str(tmp_path)]
    assert cli.main([*command, "--tasks", "pope"]) == 0
    printed = capsys.readouterr().out
    assert "adversarial/accuracy: 0.8500" in printed
    assert "note: 1 answers were replaced by a later answer" in printed
    assert cli.main(command) == 2
    assert cli.main([*command, "--tasks", "vqav2"]) == 2
    assert "by a server" in capsys.readouterr().err


def test_the_command_lists_answers_that_differ_and_explains_the_gap(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    first = write_predictions(golden, tmp_path, "pope")
    second = first.with_name("other.jsonl")
    line = first.read_text().splitlines()[1]
    other = "no" if json.loads(line)["text"].lower().startswith("yes") else "yes"
    changed = json.dumps(json.loads(line) | {"text": other, "token_ids": [3]}, sort_keys=True)
    second.write_text(first.read_text().replace(line, changed))
    assert cli.main(["evaluate", "--compare", str(first), str(second), "--data_root", str(tmp_path)]) == 0
    assert "pope: 1 answers differ\n  0: " in capsys.readouterr().out
    assert cli.main(["evaluate", "--explain", str(first), str(second), "--data_root", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "pope: 0.8474 -> " in printed
    assert "runtime" in printed
    second.write_text(second.read_text().replace('"task": "pope"', '"task": "mme"'))
    assert cli.main(["evaluate", "--explain", str(first), str(second), "--data_root", str(tmp_path)]) == 2
    assert "of mme and pope" in capsys.readouterr().err


def test_the_command_scores_a_task_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "mine.jsonl").write_text(
        '{"id": 1, "question": "Two?", "answers": "2"}\n{"id": 2, "question": "?", "answers": "x"}\n'
    )
    (tmp_path / "said.jsonl").write_text('{"question_id": 1, "text": "two"}\n{"question_id": 9, "text": ""}\n')
    command = ["evaluate", "--answers", str(tmp_path / "said.jsonl"), "--questions", str(tmp_path / "mine.jsonl")]
    assert cli.main([*command, "--scorer", "vqa_exact_match"]) == 0
    printed = capsys.readouterr().out
    assert "mine.jsonl (vqa_exact_match): 2 questions\n  accuracy: 50.00 %" in printed
    assert "1 answers belong to no question" in printed
    assert "1 of 2 questions have no answer" in printed
    assert cli.main([*command, "--scorer", "exact"]) == 2
    assert "Did you mean 'exact_match'" in capsys.readouterr().err


def test_the_list_says_where_files_come_from_and_who_scores(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["evaluate", "--list"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("  llava-1.5: scored ") == 12
    assert "in DATA_ROOT/pope: llava_pope_test.jsonl, coco, val2014" in printed
    assert "llava-1.5: scored here, reported is f1" in printed
    assert "llava-1.5: scored by a judge, reported is relative (gpt-4-0314" in printed
    assert cli.main(["evaluate", "--rescore", "nowhere"]) == 2
    assert "--data_root" in capsys.readouterr().err
    assert cli.main(["evaluate", "--rescore", "nowhere", "--data_root", "."]) == 2
    assert "no predictions file" in capsys.readouterr().err
