"""Score predictions files: without a model, from the answers and the benchmark's files alone."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers_llava.artifacts.digests.file_digests import file_digest
from transformers_llava.artifacts.evaluation_files.evaluation_record import (
    PREDICTIONS_FOLDER,
    ResultRecord,
    ScoreRecord,
)
from transformers_llava.artifacts.evaluation_files.predictions import (
    PredictionsError,
    PredictionsFile,
    read_predictions,
)
from transformers_llava.evaluation.asking import question_text, read_questions
from transformers_llava.evaluation.questions.question import Question
from transformers_llava.evaluation.scorers import scorer_of
from transformers_llava.evaluation.scoring.verdicts import Protocol, Score, TaskResult
from transformers_llava.evaluation.tasks import PROTOCOLS, Task, load_task


def questions_digest(task: Task, protocol: Protocol, questions: Sequence[Question]) -> str:
    """
    SHA-256 of what is asked: key, text and image of every question, in any order.

    Args:
        task ([`Task`]): Of the questions.
        protocol (`str`): In whose words they are asked.
        questions (`Sequence[Question]`): As `read_questions(..., annotated=False)` has them.
    """
    lines = sorted(
        json.dumps(
            [
                question.key,
                question_text(task, protocol, question),
                hashlib.sha256(question.image).hexdigest() if isinstance(question.image, bytes) else question.image,
            ]
        )
        for question in questions
    )
    return hashlib.sha256("\n".join(lines).encode("ascii")).hexdigest()


def find_predictions(output_dir: str | Path) -> tuple[Path, ...]:
    """
    The predictions files of an output folder, by name.

    Raises:
        `PredictionsError`: There is none.
    """
    folder = Path(output_dir) / PREDICTIONS_FOLDER
    paths = tuple(sorted(folder.glob("*.jsonl")))
    if not paths:
        raise PredictionsError(
            f"'{folder}' has no predictions file (*.jsonl), so there is nothing to score. Name the folder that was "
            "given as --output_dir when the questions were asked."
        )
    return paths


def rescore(
    path: str | Path, data_root: str | Path, *, rows: Sequence[Mapping[str, Any]] | None = None, seed: int = 0
) -> tuple[TaskResult | None, ResultRecord]:
    """
    Score a predictions file.

    Args:
        path (`str` or `Path`): Of the predictions.
        data_root (`str` or `Path`): What the original calls `playground/data/eval`.
        rows (`Sequence[Mapping]`, *optional*): Of the Hub data set, as `read_questions` takes them.
        seed (`int`, *optional*, defaults to 0): Of the bootstrap.

    Returns:
        Verdicts and scores, `None` where only a server or judge scores; and the record for `evaluation.json`.

    Raises:
        `PredictionsError`: The questions in `data_root` are not those that were asked, or answers belong to none.
        `QuestionsError`: A file of the benchmark is missing.
    """
    file = read_predictions(path)
    header = file.header
    task = load_task(header.task)
    task.protocol(header.protocol)  # raises for an unknown one
    protocol = next(name for name in PROTOCOLS if name == header.protocol)
    asked = read_questions(task, protocol, data_root, annotated=False, rows=rows)
    if questions_digest(task, protocol, asked) != header.data_digest:
        raise PredictionsError(
            f"'{path}' answers other questions of {task.name} than those in '{data_root}', so the right answers there "
            "do not belong to it. Use the files that were there when the model was asked."
        )
    foreign = file.texts.keys() - {question.key for question in asked}
    if foreign:
        raise PredictionsError(
            f"'{path}' answers {len(foreign)} questions that {task.name} has not, such as {min(map(str, foreign))!r}. "
            "The file was changed; ask again."
        )
    scorer = task.protocol(header.protocol).scorer
    if scorer is None:
        return None, _record(task, protocol, file, Path(path), None, seed)
    questions = read_questions(task, protocol, data_root, rows=rows)
    if header.num_questions < header.num_available:  # a limit: the others were not to be asked
        questions = tuple(question for question in questions if question.key in file.texts)
    texts = file.texts
    if not any(text.strip() for text in texts.values()):  # a rule may take an empty answer for yes
        texts = {}
    result = scorer_of(scorer)(questions, texts)
    return result, _record(task, protocol, file, Path(path), result, seed)


def _record(
    task: Task, protocol: Protocol, file: PredictionsFile, path: Path, result: TaskResult | None, seed: int
) -> ResultRecord:
    header, described = file.header, task.protocol(protocol)
    notes = [] if any(text.strip() for text in file.texts.values()) else ["the model answered nothing at all."]
    notes += [*file.notes, *(result.notes if result else ())]
    if described.scored != "here":
        notes.append(f"not scored here, but by a {described.scored}: {described.note}.")
    elif described.note:
        notes.append(f"{described.note}.")
    return ResultRecord(
        task=task.name,
        protocol=protocol,
        protocol_version=header.protocol_version,
        model=header.model,
        model_digest=header.model_digest,
        model_revision=header.model_revision,
        decoding=dict(header.decoding),
        num_questions=header.num_questions,
        num_unanswered=file.num_missing if result is None else result.num_unanswered,
        is_partial=file.is_partial,
        headline=described.headline if result else None,
        scores=tuple(_score(score, seed) for score in result.scores) if result else (),
        notes=tuple(notes),
        data_digest=header.data_digest,
        predictions_digest=file_digest(path),
    )


def _score(score: Score, seed: int) -> ScoreRecord:
    low, high = score.interval(seed=seed) or (None, None)
    return ScoreRecord(score.name, score.value, score.unit, low, high, score.num_units)


__all__ = ["find_predictions", "questions_digest", "rescore"]
