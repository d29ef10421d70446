"""Prompts of both protocols, byte for byte, for every recorded question and variant."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.recorded_evaluation import FILES, asked, benchmark, documents, recorded
from transformers_llava.evaluation.prompts import (
    lmms_text,
    mmbench_rounds,
    render_prompt,
    user_text,
    with_letter_prompt,
)
from transformers_llava.evaluation.questions.multiple_choice import read_scienceqa
from transformers_llava.evaluation.questions.question import Question
from transformers_llava.evaluation.questions.question_lines import QuestionsError
from transformers_llava.evaluation.questions.scienceqa_file import scienceqa_question_file


Asking = tuple[Question, str, str]  # question, text in the answers file, text of the user's turn without the marker
OTHER_TASKS = [name for name in FILES if name not in ("mmbench", "mmbench_cn", "scienceqa")]
LMMS_TASKS = [name for name in FILES if name not in ("llava_bench", "mmvet")]


def assert_equal(rows: list[dict], askings: list[Asking], *, use_im_start_end: bool, note: Callable[..., str]) -> None:
    assert rows
    for row, (question, noted, text) in zip(rows, askings):
        assert row["question_id"] == question.id
        has_image = question.image is not None
        assert row["has_image"] == has_image
        turn = user_text(text, has_image=has_image, use_im_start_end=use_im_start_end)
        assert turn == row["user_message"]
        assert render_prompt(turn) == row["prompt"]
        assert note(noted, has_image) == row["text_in_answers_file"]


@pytest.mark.parametrize("task", OTHER_TASKS)
def test_prompts_of_question_files_are_the_originals(task: str, golden: Path) -> None:
    variants = recorded(golden, task, "prompts.json")
    askings = [(question, question.text, question.text) for question in asked(golden, task)]
    assert set(variants) == {"script_run", "mm_use_im_start_end"}
    assert len(variants["script_run"]) == len(askings)
    for name, rows in variants.items():
        assert_equal(rows, askings, use_im_start_end=name == "mm_use_im_start_end", note=lambda text, has_image: text)


def test_prompts_of_scienceqa_are_the_originals(golden: Path) -> None:
    variants = recorded(golden, "scienceqa", "prompts.json")
    lettered = read_scienceqa(benchmark(golden, "scienceqa") / "llava_test_lettered.json")
    questions = asked(golden, "scienceqa")
    assert len(variants) == 4
    assert len(variants["script_run"]) == len(questions)
    for name, rows in variants.items():
        ask = str if name == "without_single_pred_prompt" else with_letter_prompt
        texts = [(q, ask(q.text), ask(q.text)) for q in (lettered if name == "lettered_question_file" else questions)]
        assert_equal(
            rows,
            texts,
            use_im_start_end=name == "mm_use_im_start_end",
            note=lambda text, has_image: user_text(text, has_image=has_image),
        )


def test_the_question_file_of_scienceqa_is_made_from_its_problems(golden: Path, tmp_path: Path) -> None:
    folder = benchmark(golden, "scienceqa")
    assert scienceqa_question_file(folder) == (folder / "llava_test_CQM-A.json").read_text(encoding="utf-8")
    with pytest.raises(QuestionsError, match="no split 'other'"):
        scienceqa_question_file(folder, split="other")
    (tmp_path / "pid_splits.json").write_text('{"test": ["1"]}')
    (tmp_path / "problems.json").write_text('{"1": {"hint": "", "question": "?", "choices": ["x"], "answer": 0}}')
    with pytest.raises(QuestionsError, match=r"cannot be asked \(KeyError: 'image'"):
        scienceqa_question_file(tmp_path)


@pytest.mark.parametrize(("task", "language", "other"), [("mmbench", "en", "cn"), ("mmbench_cn", "cn", "en")])
def test_prompts_of_mmbench_are_the_originals(task: str, language: str, other: str, golden: Path) -> None:
    variants = recorded(golden, task, "prompts.json")
    assert set(variants) == {
        "script_run",
        "mm_use_im_start_end",
        "without_single_pred_prompt",
        "all_rounds",
        "other_language",
    }
    for name, rows in variants.items():
        askings, rounds = [], []
        for question in asked(golden, task):
            for asking in mmbench_rounds(question, all_rounds=name == "all_rounds"):
                chosen = other if name == "other_language" else language
                plain = name == "without_single_pred_prompt"
                text = asking.text if plain else with_letter_prompt(asking.text, language=chosen)
                askings.append((question, asking.text, text))
                rounds.append(asking)
        assert len(rows) <= len(askings)
        assert_equal(rows, askings, use_im_start_end=name == "mm_use_im_start_end", note=lambda text, has_image: text)
        for row, asking in zip(rows, rounds):
            assert (row["round_id"], row["options"], row["option_char"]) == (
                asking.number,
                list(asking.options),
                list(asking.letters),
            )


@pytest.mark.parametrize("task", LMMS_TASKS)
def test_prompts_of_lmms_eval_are_its_own(task: str, golden: Path) -> None:
    docs = recorded(golden, task, "lmms_eval.json")["docs"]
    questions = documents(golden, task)
    assert [lmms_text(task, question) for question in questions] == [doc["prompt"] for doc in docs]
    for name in ("question_id", "id", "index"):
        if name in docs[0] and task != "pope":  # whose ids lmms-eval's data set writes as texts
            assert [str(question.id) for question in questions] == [str(doc[name]) for doc in docs]
    if task == "textvqa":
        with_ocr = [lmms_text(task, question, with_ocr=True) for question in questions]
        assert with_ocr == [doc["prompt_with_ocr_true"] for doc in docs]
