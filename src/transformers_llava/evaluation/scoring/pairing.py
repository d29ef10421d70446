"""Pair the lines of an answers file with questions by id, and count what does not pair."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers_llava.artifacts.limits import MAX_ANSWER_LINE_BYTES
from transformers_llava.evaluation.questions.question import Answer, Key, Question


class AnswersError(ValueError):
    """An answers file cannot be read; names the file and says why."""


@dataclass(frozen=True)
class AnswersFile:
    """
    The answers file of an original script.

    Args:
        answers (`tuple[Answer, ...]`): Its lines in order.
        num_malformed (`int`): Lines that are no such record; an answer in one of them is lost.
    """

    answers: tuple[Answer, ...]
    num_malformed: int = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What to tell the reader of a score."""
        lost = f"{self.num_malformed} lines of the answers file are no answers and were not read."
        return (lost,) if self.num_malformed else ()


@dataclass(frozen=True)
class PairedAnswers:
    """
    Args:
        texts (`Mapping`): Key of a question to its answer; questions without one are not in it.
        num_replaced (`int`): Lines that a later line for the same question replaced.
        unknown_ids (`tuple`): Ids of lines that are no question's, in order.
    """

    texts: Mapping[Key, str]
    num_replaced: int
    unknown_ids: tuple[Key, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What to tell the reader of a score."""
        notes = []
        if self.num_replaced:
            notes.append(f"{self.num_replaced} answers were replaced by a later answer to the same question.")
        if self.unknown_ids:
            named = ", ".join(repr(key) for key in self.unknown_ids[:3]) + (", ..." if self.unknown_ids[3:] else "")
            notes.append(f"{len(self.unknown_ids)} answers belong to no question and are not used: {named}.")
        return tuple(notes)


def read_answers(path: str | Path) -> AnswersFile:
    """
    Read the JSON lines that `llava/eval/model_vqa*.py` writes: `question_id`, `prompt`, `text`.

    Raises:
        `AnswersError`: The file cannot be read, is not UTF-8, or has a line longer than `MAX_ANSWER_LINE_BYTES`.
    """
    answers, num_malformed = [], 0
    try:
        with Path(path).open(encoding="utf-8") as file:
            while line := file.readline(MAX_ANSWER_LINE_BYTES + 1):
                if len(line) > MAX_ANSWER_LINE_BYTES:
                    raise AnswersError(
                        f"'{path}' has a line of more than {MAX_ANSWER_LINE_BYTES / 2**20:.0f} MiB, which is no "
                        "answer. The file is not read; make it again."
                    )
                answer = _answer_of(line)
                if answer is None:
                    num_malformed += 1
                else:
                    answers.append(answer)
    except (OSError, UnicodeDecodeError) as error:
        raise AnswersError(f"'{path}' cannot be read as a file of answers: {error}. Nothing is scored.") from error
    return AnswersFile(tuple(answers), num_malformed)


def pair_answers(
    questions: Sequence[Question], answers: Iterable[Answer], *, wording: Callable[[str], str | None] | None = None
) -> PairedAnswers:
    """
    Give each answer to its question.

    Ids pair with their type, as in the original scripts: the text `"17"` is not the number 17. Where questions share
    an id (MME, TextVQA), the prompt tells them apart; equal prompts are taken in order. The last answer to a question
    counts.

    Args:
        questions (`Sequence[Question]`): Of one task.
        answers (`Iterable[Answer]`): Lines of an answers file.
        wording (`Callable`, *optional*): What of a prompt must agree, also where an id stands once, as
            `questions.annotations.wording_of` gives it; `None` for a prompt without a question. By default the whole
            prompt must, where questions share an id.
    """
    asked = {question.key: wording(question.text) if wording else question.text for question in questions}
    by_id: dict[Key, list[Question]] = defaultdict(list)
    for question in questions:
        by_id[question.id].append(question)
    texts: dict[Key, str] = {}
    turn: dict[tuple[Key, str], int] = defaultdict(int)
    unknown: list[Key] = []
    num_replaced = 0
    for answer in answers:
        candidates = by_id.get(answer.question_id, [])
        said = wording(answer.prompt) if wording else answer.prompt
        if len(candidates) > 1 or wording:
            candidates = [question for question in candidates if said is not None and asked[question.key] == said]
        if not candidates:
            unknown.append(answer.question_id)
            continue
        place = turn[answer.question_id, said or ""]
        turn[answer.question_id, said or ""] += 1
        key = candidates[place % len(candidates)].key
        num_replaced += key in texts
        texts[key] = answer.text
    return PairedAnswers(texts, num_replaced, tuple(unknown))


def _answer_of(line: str) -> Answer | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    key, text, prompt = record.get("question_id"), record.get("text"), record.get("prompt", "")
    if isinstance(key, float) and key.is_integer():  # 17.0 finds the question 17, as in a dict of the original
        key = int(key)
    if not isinstance(key, int | str) or not isinstance(text, str) or not isinstance(prompt, str):
        return None
    return Answer(key, text, prompt)


__all__ = ["AnswersError", "AnswersFile", "PairedAnswers", "pair_answers", "read_answers"]
