"""Add the right answers to questions of the original's layout, from each benchmark's own annotation files."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers_llava.evaluation.questions.question import Key, Question
from transformers_llava.evaluation.questions.question_lines import (
    QuestionsError,
    key_of,
    read_document,
    read_lines,
    text_of,
)


SHORT_ANSWER = "Answer the question using a single word or phrase."
YES_OR_NO = "Please answer yes or no."
_OCR_TOKENS = "Reference OCR token: "


def annotate_textvqa(questions: Sequence[Question], path: str | Path) -> tuple[Question, ...]:
    """
    Add ten people's answers from `TextVQA_0.5.1_val.json`, found by image and question.

    Raises:
        `QuestionsError`: A question has no entry there.
    """
    answers = {}
    for number, entry in enumerate(_entries(read_document(path), "data", path), start=1):
        place = f"'{path}', entry {number},"
        people = entry.get("answers")
        if not isinstance(people, list) or not all(isinstance(answer, str) for answer in people):
            raise QuestionsError(f"{place} has no list of texts as `answers`.")
        wording = text_of(entry, "question", place).lower()
        answers[key_of(entry, "image_id", place), wording] = tuple(people)  # a later entry replaces an earlier one
    annotated = []
    for question in questions:
        asked = textvqa_question_of(question.text)
        if (question.id, asked) not in answers:
            raise QuestionsError(
                f"'{path}' has no answers for image {question.id!r} and the question {asked!r}, so it cannot be "
                "scored. Use the question file and the annotations of the same version."
            )
        annotated.append(replace(question, answers=answers[question.id, asked]))
    return tuple(annotated)


def textvqa_question_of(prompt: str) -> str:
    """
    Recover the question, in lower case, from a prompt of TextVQA, as `eval_textvqa.py` does.

    Example:

        >>> textvqa_question_of("What Brand?\\nReference OCR token: A, B\\nAnswer the question ...")
        'what brand?'

    Raises:
        `QuestionsError`: It is none of the four forms that the original knows.
    """
    lines = prompt.split("\n")
    if prompt.startswith("OCR tokens: "):
        _, mark, rest = prompt.partition("Question: ")
        question, end, _ = rest.partition(" Short answer:")
        if mark and end:
            return question.lower()
    elif _OCR_TOKENS in prompt and len(lines) == 3:
        return lines[1 if prompt.startswith(_OCR_TOKENS.rstrip()) else 0].lower()
    elif len(lines) == 2:
        return lines[0].lower()
    raise QuestionsError(
        f"the prompt {prompt[:200]!r} has no form in which TextVQA's question can be found: two lines, or three with "
        f"{_OCR_TOKENS!r}. Its answers cannot be scored."
    )


def wording_of(task: str) -> Callable[[str], str | None] | None:
    """
    What tells the questions of an image apart: the question that the original finds in the prompt.

    Returns:
        `Callable`: For `textvqa` and `mme`, whose questions share ids: a prompt to its question, or to `None` where
        there is none. `None` for all other tasks.
    """
    return {"textvqa": _textvqa_wording, "mme": _mme_wording}.get(task)


def annotate_pope(questions: Sequence[Question], folder: str | Path) -> tuple[Question, ...]:
    """
    Add yes or no from `coco_pope_<split>.json`, line by line within a split, each checked by image and question.

    Raises:
        `QuestionsError`: A split has no such file, or a question no line in it.
    """
    by_split: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_split[question.category].append(question)
    labels: dict[Key, str] = {}
    for split, members in by_split.items():
        path = Path(folder) / f"coco_pope_{split}.json"
        lines = [(f"'{path}', line {number},", record) for number, record in read_lines(path)]
        entries = [
            (text_of(record, "image", place), text_of(record, "text", place), text_of(record, "label", place))
            for place, record in lines
        ]
        by_question = {(image, text): label for image, text, label in entries}
        for position, question in enumerate(members):
            asked = question.text.removesuffix(SHORT_ANSWER).removesuffix("\n")
            here = entries[position] if position < len(entries) else None
            if here is not None and here[0] == question.image and question.text.startswith(here[1]):
                labels[question.key] = here[2]
            elif (str(question.image), asked) in by_question:
                labels[question.key] = by_question[str(question.image), asked]
            else:
                raise QuestionsError(
                    f"'{path}' has no label for image {question.image!r} and the question {asked!r}, so it cannot be "
                    "scored. Use the question file and the annotations of the same version."
                )
    return tuple(replace(question, answers=(labels[question.key],)) for question in questions)


def annotate_mme(questions: Sequence[Question], folder: str | Path) -> tuple[Question, ...]:
    """
    Add Yes or No from `MME_Benchmark_release_version/<category>[/questions_answers_YN]/<image>.txt`.

    `hint` becomes the question as it stands there, which is how lmms-eval's data set has it.

    Raises:
        `QuestionsError`: A question is in no such file.
    """
    known: dict[Path, dict[str, str]] = {}
    annotated = []
    for question in questions:
        name = str(question.id)
        category, image = name.split("/")[0], name.split("/")[-1].split(".")[0]
        path = _mme_file(Path(folder), category, image)
        if path not in known:
            known[path] = _mme_answers(path)
        asked = _mme_wording(question.text)
        forms = (asked,) if YES_OR_NO in asked else (f"{asked} {YES_OR_NO}", f"{asked}  {YES_OR_NO}")
        found = next((form for form in forms if form in known[path]), None)
        if found is None:
            raise QuestionsError(
                f"'{path}' has no answer for the question {forms[0]!r} of image {name!r}, so it cannot be scored. Use "
                "the question file and the annotations of the same version."
            )
        annotated.append(replace(question, answers=(known[path][found],), hint=found))
    return tuple(annotated)


def annotate_seed_bench(questions: Sequence[Question], path: str | Path) -> tuple[Question, ...]:
    """
    Order the questions as `SEED-Bench.json` does, with letter, question type and `image` or `video`.

    Ids there are texts; one that is a number is found under that number, as in the original. A question of the
    annotation that the question file lacks stays: it cannot be asked, and counts as not answered.

    Raises:
        `QuestionsError`: The file is no such annotation, or a question is not in it.
    """
    document = read_document(path)
    names = {number: name for name, number in _mapping(document, "question_type", path).items()}
    by_id = {question.id: question for question in questions}
    annotated = []
    for number, entry in enumerate(_entries(document, "questions", path), start=1):
        place = f"'{path}', question {number},"
        key = seed_key(key_of(entry, "question_id", place))
        kind = entry.get("question_type_id")
        if kind not in names:
            raise QuestionsError(f"{place} is of type {kind!r}, which `question_type` does not name.")
        asked = by_id.pop(key, None) or Question(key, key, text_of(entry, "question", place))
        annotated.append(
            replace(
                asked,
                answers=(text_of(entry, "answer", place),),
                category=names[kind],
                category_id=kind,
                subset=text_of(entry, "data_type", place),
            )
        )
    if by_id:
        raise QuestionsError(
            f"'{path}' does not know {len(by_id)} questions, such as {next(iter(by_id))!r}, so they cannot be scored. "
            "Use the question file and the annotations of the same version."
        )
    return tuple(annotated)


def seed_key(key: Key) -> Key:
    """`"101669"` is the number 101669, as `int()` reads it; other ids stay as they are."""
    try:
        return int(key)
    except ValueError:
        return key


def annotate_gqa(questions: Sequence[Question], path: str | Path) -> tuple[Question, ...]:
    """
    Add the answers of GQA's `testdev_balanced_questions.json`.

    Raises:
        `QuestionsError`: A question is not in it.
    """
    document = read_document(path)
    annotated = []
    for question in questions:
        entry = document.get(str(question.id))
        if not isinstance(entry, dict):
            raise QuestionsError(f"'{path}' does not know question {question.id!r}, so it cannot be scored.")
        annotated.append(replace(question, answers=(text_of(entry, "answer", f"'{path}', {question.id!r},"),)))
    return tuple(annotated)


def _textvqa_wording(prompt: str) -> str | None:
    try:
        return textvqa_question_of(prompt)
    except QuestionsError:
        return None


def _mme_wording(prompt: str) -> str:
    return prompt.replace(SHORT_ANSWER, "").strip() if SHORT_ANSWER in prompt else prompt


def _mme_file(folder: Path, category: str, image: str) -> Path:
    nested = folder / category / "questions_answers_YN"
    return (nested if nested.is_dir() else folder / category) / f"{image}.txt"


def _mme_answers(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise QuestionsError(f"'{path}' cannot be read: {error}. Its questions cannot be scored.") from error
    answers = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            parts = line.strip().split("\t")
            if len(parts) != 2:
                raise QuestionsError(f"'{path}', line {number}, is {line!r}, where question, tab, answer is expected.")
            answers[parts[0]] = parts[1]
    return answers


def _entries(document: dict[str, Any], field: str, path: str | Path) -> list[dict[str, Any]]:
    entries = document.get(field)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise QuestionsError(f"'{path}' has no list of mappings as `{field}`. It is not the annotation file.")
    return entries


def _mapping(document: dict[str, Any], field: str, path: str | Path) -> dict[str, int]:
    value = document.get(field)
    if not isinstance(value, dict):
        raise QuestionsError(f"'{path}' has no mapping as `{field}`. It is not the annotation file.")
    return value


__all__ = [
    "SHORT_ANSWER",
    "YES_OR_NO",
    "annotate_gqa",
    "annotate_mme",
    "annotate_pope",
    "annotate_seed_bench",
    "annotate_textvqa",
    "seed_key",
    "textvqa_question_of",
    "wording_of",
]
