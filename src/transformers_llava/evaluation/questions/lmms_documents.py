"""Read questions as lmms-eval's data sets word them: rows of the Hub, or the same from the original's files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers_llava.evaluation.questions.annotations import SHORT_ANSWER
from transformers_llava.evaluation.questions.multiple_choice import (
    LETTERS,
    is_missing,
    read_mmbench,
    read_table,
    scienceqa_problem,
)
from transformers_llava.evaluation.questions.question import Question, with_unique_keys
from transformers_llava.evaluation.questions.question_lines import QuestionsError, key_of, read_document, text_of


EMPTY_CELL = "nan"  # what the Hub's MMBench has in empty cells, and what lmms-eval then matches answers with


def questions_of_rows(task: str, rows: Sequence[Mapping[str, Any]]) -> tuple[Question, ...]:
    """
    Questions of a Hub data set's rows, without their images.

    Args:
        task (`str`): `vqav2`, `gqa`, `vizwiz`, `textvqa`, `pope`, `mme`, `seed_bench`, `scienceqa`, `mmbench`,
            `mmbench_cn`, `llava_bench` or `mmvet`.
        rows (`Sequence[Mapping]`): Each as lmms-eval's task of that name reads it.

    Raises:
        `QuestionsError`: A row lacks a field.
    """
    return with_unique_keys(_question(task, row, f"row {number} of {task}") for number, row in enumerate(rows))


def textvqa_documents(annotations: str | Path) -> tuple[Question, ...]:
    """The questions of `TextVQA_0.5.1_val.json`; `hint` has the OCR tokens, which the task's default leaves out."""
    return questions_of_rows("textvqa", read_document(annotations)["data"])


def pope_documents(questions: Sequence[Question]) -> tuple[Question, ...]:
    """Annotated questions of the original's file, without its closing instruction."""
    return tuple(
        replace(question, text=question.text.removesuffix(SHORT_ANSWER).removesuffix("\n")) for question in questions
    )


def mme_documents(questions: Sequence[Question]) -> tuple[Question, ...]:
    """Annotated questions of the original's file, as the annotation words them."""
    return tuple(replace(question, text=question.hint or question.text) for question in questions)


def seed_bench_documents(annotations: str | Path) -> tuple[Question, ...]:
    """The questions of `SEED-Bench.json`."""
    return questions_of_rows("seed_bench", read_document(annotations)["questions"])


def scienceqa_documents(folder: str | Path, *, split: str = "test") -> tuple[Question, ...]:
    """The problems of a split; those without an image have `image=None`."""
    problems = read_document(Path(folder) / "problems.json")
    keys = read_document(Path(folder) / "pid_splits.json")[split]
    return tuple(scienceqa_problem(key, problems[key], f"problem {key!r}") for key in keys)


def mmbench_documents(table: str | Path) -> tuple[Question, ...]:
    """The rows of MMBench's table, whose empty cells become the text "nan" as in the Hub's copy."""
    images = {question.id: question.image for question in read_mmbench(table)}
    rows = read_table(table, text_only=True).to_dict("records")
    documents = questions_of_rows(
        "mmbench", [{str(name): _cell(value) for name, value in row.items()} for row in rows]
    )
    return tuple(replace(document, image=images.get(document.id)) for document in documents)


def _question(task: str, row: Mapping[str, Any], place: str) -> Question:
    key = key_of(row, next((name for name in ("question_id", "index", "id") if name in row), "question_id"), place)
    if task in ("mmbench", "mmbench_cn"):
        key = int(key)
    make: Callable[..., Question] = _FIELDS.get(task, _plain)
    return make(Question(key, key, text_of(row, "question", place), _image_of(row)), row, place)


def _plain(question: Question, row: Mapping[str, Any], place: str) -> Question:
    answers = row.get("answers", row.get("answer"))
    answers = [answers] if isinstance(answers, str) else answers or []
    texts = [answer["answer"] if isinstance(answer, Mapping) else answer for answer in answers]
    if not all(isinstance(text, str) for text in texts):
        raise QuestionsError(f"{place} has answers that are no texts: {str(answers)[:200]}.")
    tokens = row.get("ocr_tokens")
    hint = ", ".join(map(str, tokens)) if isinstance(tokens, Sequence) and not isinstance(tokens, str) else None
    return replace(question, answers=tuple(texts), hint=hint, category=str(row.get("category", "")))


def _seed_bench(question: Question, row: Mapping[str, Any], place: str) -> Question:
    options = tuple(text_of(row, f"choice_{letter}", place) for letter in "abcd")
    answer, subset = text_of(row, "answer", place), text_of(row, "data_type", place)
    return replace(question, answers=(answer,), options=options, subset=subset)


def _scienceqa(question: Question, row: Mapping[str, Any], place: str) -> Question:
    return replace(scienceqa_problem(str(question.id), dict(row), place), key=question.key, id=question.id)


def _mmbench(question: Question, row: Mapping[str, Any], place: str) -> Question:
    return replace(
        question,
        answers=(row["answer"],) if isinstance(row.get("answer"), str) else (),
        options=tuple(str(row[letter]) for letter in LETTERS if letter in row),
        hint=text_of(row, "hint", place),
        category=str(row.get("category", "")),
        subset=str(row.get("L2-category", row.get("l2-category", ""))),
    )


def _image_of(row: Mapping[str, Any]) -> str | None:
    image = row.get("image", row.get("image_id"))
    return image if isinstance(image, str) else None


def _cell(value: object) -> object:
    return EMPTY_CELL if not isinstance(value, str) and is_missing(value) else value


_FIELDS: dict[str, Callable[..., Question]] = {
    "seed_bench": _seed_bench,
    "scienceqa": _scienceqa,
    "mmbench": _mmbench,
    "mmbench_cn": _mmbench,
}

__all__ = [
    "EMPTY_CELL",
    "mmbench_documents",
    "mme_documents",
    "pope_documents",
    "questions_of_rows",
    "scienceqa_documents",
    "seed_bench_documents",
    "textvqa_documents",
]
