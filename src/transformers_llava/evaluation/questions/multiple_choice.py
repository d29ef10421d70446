"""Read the two multiple choice benchmarks that have files of their own: ScienceQA's JSON and MMBench's table."""

import base64
import binascii
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers_llava.artifacts.limits import MAX_TABLE_BYTES
from transformers_llava.evaluation.questions.question import Question
from transformers_llava.evaluation.questions.question_lines import QuestionsError, key_of, read_document, text_of


if TYPE_CHECKING:
    import pandas as pd


LETTERS = ("A", "B", "C", "D", "E")
MMBENCH_OPTIONS = LETTERS[:4]


def read_scienceqa(path: str | Path) -> tuple[Question, ...]:
    """
    Read `llava_test_CQM-A.json`: records with `id`, perhaps `image`, and a conversation whose first turn asks.

    The image marker is taken out of the question and its white space stripped, as the original does.

    Raises:
        `QuestionsError`: A record is none.
    """
    questions = []
    for number, record in enumerate(read_document(path, kind=list), start=1):
        place = f"'{path}', record {number},"
        turns = record.get("conversations") if isinstance(record, dict) else None
        if not isinstance(turns, list) or not turns or not isinstance(turns[0], dict):
            raise QuestionsError(f"{place} has no conversation, so there is nothing to ask.")
        key = key_of(record, "id", place)
        text = text_of(turns[0], "value", place).replace("<image>", "").strip()
        image = text_of(record, "image", place) if "image" in record else None
        questions.append(Question(key, key, text, image))
    return _with_ids_of_their_own(questions, path)


def annotate_scienceqa(
    questions: tuple[Question, ...], folder: str | Path, *, split: str = "test"
) -> tuple[Question, ...]:
    """
    Order the questions as `pid_splits.json` does, with options and letter of `problems.json`.

    A problem that the question file lacks stays: it counts as not answered, as in the original.

    Raises:
        `QuestionsError`: The split does not exist, a problem is missing, or its answer is none of its options.
    """
    splits, problems = Path(folder) / "pid_splits.json", Path(folder) / "problems.json"
    ids, table = read_document(splits).get(split), read_document(problems)
    if not isinstance(ids, list):
        raise QuestionsError(f"'{splits}' has no split {split!r}, so it is not known which problems to score.")
    by_id = {question.id: question for question in questions}
    annotated = []
    for key in ids:
        problem = table.get(key) if isinstance(key, str) else None
        if not isinstance(problem, dict):
            raise QuestionsError(f"'{problems}' lacks the problem {key!r} of the split {split!r}.")
        annotated.append(scienceqa_problem(key, problem, f"'{problems}', {key!r},", by_id.get(key)))
    return tuple(annotated)


def scienceqa_problem(key: str, problem: dict[str, Any], place: str, asked: Question | None = None) -> Question:
    """A problem of `problems.json` as a question; with the text and image of `asked` where that is given."""
    options, answer = problem.get("choices"), problem.get("answer")
    if not isinstance(options, list) or not isinstance(answer, int) or not 0 <= answer < min(len(options), 5):
        raise QuestionsError(f"{place} has the answer {answer!r} to the choices {options!r}; it cannot be scored.")
    text = text_of(problem, "question", place) if asked is None else asked.text
    image = None if asked is None else asked.image
    return Question(
        key,
        key,
        text,
        image if asked is not None else _image_path(key, problem.get("image")),
        answers=(LETTERS[answer],),
        options=tuple(map(str, options)),
        hint=str(problem.get("hint") or "") or None,
        category=str(problem.get("subject", "")),
    )


def read_mmbench(path: str | Path) -> tuple[Question, ...]:
    """
    Read MMBench's table: `index`, `question`, `hint`, the options A to D, `image` in base64, and mostly `answer`.

    A cell that pandas takes for missing (`NaN`, `N/A`, `None`, nothing, ...) or that says nan or none ends the
    options; numbers stay the texts that the file has, where the original stops with a TypeError.

    Raises:
        `QuestionsError`: The table lacks a column, or an image is no base64.
    """
    table = read_table(path, text_only=True)
    lacking = [name for name in ("index", "question", "hint", *MMBENCH_OPTIONS, "image") if name not in table.columns]
    if lacking:
        raise QuestionsError(f"'{path}' has no column {', '.join(lacking)}, so it is no table of MMBench.")
    questions = []
    for row in table.to_dict("records"):
        options: list[str] = []
        for letter in MMBENCH_OPTIONS:
            if is_missing(row[letter]):
                break
            options.append(row[letter])
        index = row["index"]
        key = int(index) if isinstance(index, str) and index.strip().lstrip("-").isdecimal() else str(index)
        questions.append(
            Question(
                key,
                key,
                text=row["question"] if isinstance(row["question"], str) else "nan",
                image=_image(row["image"], f"'{path}', index {key!r},"),
                answers=(row["answer"],) if isinstance(row.get("answer"), str) else (),
                options=tuple(options),
                hint=None if is_missing(row["hint"]) else row["hint"],
                category=_cell(row, "category"),
                subset=_cell(row, "l2-category"),
            )
        )
    return _with_ids_of_their_own(questions, path)


def read_table(path: str | Path, *, text_only: bool) -> "pd.DataFrame":
    """
    Read a table with tabs as pandas does; `text_only` keeps every cell a text, else columns of numbers become such.

    Raises:
        `QuestionsError`: It does not exist, is larger than `MAX_TABLE_BYTES`, or is no table.
        `ModuleNotFoundError`: pandas is not installed; it comes with the extra `evaluate`.
    """
    import pandas as pd

    try:
        size = Path(path).stat().st_size
        if size > MAX_TABLE_BYTES:
            raise QuestionsError(f"'{path}' has {size / 2**30:.1f} GiB, more than is read of a table.")
        return pd.read_table(path, dtype=str if text_only else None)
    except (OSError, ValueError) as error:  # ValueError: pandas' own errors, and what is not UTF-8
        if isinstance(error, QuestionsError):
            raise
        raise QuestionsError(f"'{path}' cannot be read as a table: {error}.") from error


def is_missing(cell: object) -> bool:
    """Whether the original takes a cell for empty: not a number, `nan` or `none` in any case."""
    if isinstance(cell, str):
        return cell.lower() in ("nan", "none")
    return cell is None or cell != cell  # NaN is not equal to itself


def _with_ids_of_their_own(questions: list[Question], path: str | Path) -> tuple[Question, ...]:
    """These files name each question once; with two of a name, answers could not be told apart."""
    double = [key for key, count in Counter(question.id for question in questions).items() if count > 1]
    if double:
        raise QuestionsError(
            f"'{path}' has {len(double)} ids that stand twice, such as {double[0]!r}. Answers could not be told "
            "apart; use the file as published."
        )
    return tuple(questions)


def _image_path(key: str, name: object) -> str | None:
    return f"{key}/{name}" if name else None


def _image(cell: object, place: str) -> bytes:
    try:
        return base64.b64decode(cell if isinstance(cell, str) else "", validate=False)
    except (binascii.Error, ValueError) as error:
        raise QuestionsError(f"{place} has an image that is no base64: {error}. It cannot be asked.") from error


def _cell(row: dict[Any, Any], name: str) -> str:
    return "" if is_missing(row.get(name)) else str(row[name])


__all__ = [
    "LETTERS",
    "MMBENCH_OPTIONS",
    "annotate_scienceqa",
    "is_missing",
    "read_mmbench",
    "read_scienceqa",
    "read_table",
    "scienceqa_problem",
]
