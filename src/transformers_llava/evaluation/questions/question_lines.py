"""Read files of JSON lines, one question each: the original's question files, and those of a user's own task."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers_llava.artifacts.limits import MAX_QUESTION_LINE_BYTES, MAX_QUESTIONS
from transformers_llava.artifacts.untrusted import read_json
from transformers_llava.evaluation.questions.question import Key, Question, with_unique_keys


class QuestionsError(ValueError):
    """A file of questions or annotations cannot be used; names the file, the place and what is wrong there."""


def read_lines(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """
    Yield line numbers, from 1, and the record of each line.

    Raises:
        `QuestionsError`: The file cannot be read, a line is no JSON object, or there are more than `MAX_QUESTIONS`.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            number = 0
            while line := file.readline(MAX_QUESTION_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_QUESTION_LINE_BYTES or number > MAX_QUESTIONS:
                    raise QuestionsError(
                        f"'{path}' goes beyond what is read of a question file in line {number}: at most "
                        f"{MAX_QUESTIONS:,} lines of {MAX_QUESTION_LINE_BYTES / 2**20:.0f} MiB."
                    )
                yield number, _record(line, f"'{path}', line {number},")
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (OSError, UnicodeDecodeError) as error:
        raise QuestionsError(f"'{path}' cannot be read: {error}.") from error


def read_document(path: str | Path, *, kind: type = dict) -> Any:
    """
    Read a JSON file of questions or annotations.

    Raises:
        `QuestionsError`: It does not exist.
        `DocumentError`: It is too large, or no JSON of that kind.
    """
    try:
        return read_json(path, kind=kind)
    except FileNotFoundError as error:
        raise _missing(path) from error


def read_question_file(path: str | Path) -> tuple[Question, ...]:
    """
    Read a question file of the original's `model_vqa.py` and `model_vqa_loader.py`.

    Each line has `question_id`, `image`, `text`, and mostly `category`.

    Raises:
        `QuestionsError`: A line lacks one of the first three.
    """
    return with_unique_keys(
        Question(
            key=(key := key_of(record, "question_id", place := f"'{path}', line {number},")),
            id=key,
            text=text_of(record, "text", place),
            image=text_of(record, "image", place),
            category=str(record.get("category", "")),
        )
        for number, record in read_lines(path)
    )


def read_own_questions(path: str | Path) -> tuple[Question, ...]:
    """
    Read a user's own task.

    Each line has `id`, `question`, and where they apply `image` (a path below the image folder), `answers` (a text or
    a list of texts, any of which is right) and `category`.

    Raises:
        `QuestionsError`: A line lacks `id` or `question`, an id stands twice, or an answer is no text.

    Example:

        {"id": 1, "image": "cat.png", "question": "What is this?", "answers": ["cat", "kitten"]}
    """
    questions: dict[Key, Question] = {}
    for number, record in read_lines(path):
        place = f"'{path}', line {number},"
        key = key_of(record, "id", place)
        if key in questions:
            raise QuestionsError(f"{place} repeats the id {key!r}. Answers could not be told apart; rename one.")
        answers = record.get("answers", [])
        answers = [answers] if isinstance(answers, str) else answers
        if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
            raise QuestionsError(f"{place} has the answers {answers!r}, where a text or a list of texts is expected.")
        image = record.get("image")
        questions[key] = Question(
            key=key,
            id=key,
            text=text_of(record, "question", place),
            image=None if image is None else text_of(record, "image", place),
            answers=tuple(answers),
            category=str(record.get("category", "")),
        )
    return tuple(questions.values())


def key_of(record: Mapping[str, Any], field: str, place: str) -> Key:
    """An id: a whole number or a text. `place` opens the error."""
    value = record.get(field)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise QuestionsError(f"{place} has {value!r} as `{field}`, where a number or a text is expected.")
    return value


def text_of(record: Mapping[str, Any], field: str, place: str) -> str:
    """A text. `place` opens the error."""
    value = record.get(field)
    if not isinstance(value, str):
        raise QuestionsError(f"{place} has {value!r} as `{field}`, where a text is expected.")
    return value


def _missing(path: str | Path) -> QuestionsError:
    return QuestionsError(
        f"'{path}' does not exist, so there is nothing to ask or to score with. `llava evaluate --list` says where "
        "the files of a task come from and where they are to lie."
    )


def _record(line: str, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise QuestionsError(
            f"{place} is not JSON ({error}). A question would be lost without a word; fetch the file again."
        ) from error
    if not isinstance(record, dict):
        raise QuestionsError(f"{place} holds {str(record)[:80]!r} where a mapping is expected.")
    return record


__all__ = [
    "QuestionsError",
    "key_of",
    "read_document",
    "read_lines",
    "read_own_questions",
    "read_question_file",
    "text_of",
]
