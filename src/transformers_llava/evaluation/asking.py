"""Read a task's questions from a folder laid out as the original's, and write what each of them asks."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers_llava.evaluation.prompts import Language, lmms_text, mmbench_text, user_text, with_letter_prompt
from transformers_llava.evaluation.questions.annotations import (
    annotate_gqa,
    annotate_mme,
    annotate_pope,
    annotate_seed_bench,
    annotate_textvqa,
)
from transformers_llava.evaluation.questions.lmms_documents import (
    mmbench_documents,
    mme_documents,
    pope_documents,
    questions_of_rows,
    scienceqa_documents,
    seed_bench_documents,
    textvqa_documents,
)
from transformers_llava.evaluation.questions.multiple_choice import annotate_scienceqa, read_mmbench, read_scienceqa
from transformers_llava.evaluation.questions.question import Question
from transformers_llava.evaluation.questions.question_lines import QuestionsError, read_question_file
from transformers_llava.evaluation.scoring.verdicts import Protocol
from transformers_llava.evaluation.tasks import Task


Annotate = Callable[[tuple[Question, ...], Path], tuple[Question, ...]]
_ANNOTATE: dict[str, Annotate] = {
    "gqa": annotate_gqa,
    "mme": annotate_mme,
    "pope": annotate_pope,
    "scienceqa": annotate_scienceqa,
    "seed_bench": annotate_seed_bench,
    "textvqa": annotate_textvqa,
}
_LANGUAGES: dict[str, Language] = {"mmbench": "en", "mmbench_cn": "cn"}


def read_questions(
    task: Task,
    protocol: Protocol,
    data_root: str | Path,
    *,
    annotated: bool = True,
    rows: Sequence[Mapping[str, Any]] | None = None,
) -> tuple[Question, ...]:
    """
    Read the questions of a task as a protocol words them.

    Args:
        task ([`Task`]): Which.
        protocol (`str`): `llava-1.5` reads the original's files; `lmms-eval` the same where they hold what its data
            set does (POPE, MME, TextVQA, ScienceQA, SEED-Bench, MMBench, LLaVA-Bench, MM-Vet), else `rows`.
        data_root (`str` or `Path`): What the original calls `playground/data/eval`.
        annotated (`bool`, *optional*, defaults to `True`): With the right answers, which scoring needs and asking
            does not.
        rows (`Sequence[Mapping]`, *optional*): Of the Hub data set; needed for VQAv2, GQA and VizWiz by lmms-eval.

    Returns:
        `tuple[Question, ...]`: With keys that do not repeat; image paths are below `task.images`.

    Raises:
        `QuestionsError`: A file is missing or none of its kind, or rows are needed.
    """
    folder = Path(data_root) / task.folder
    if protocol == "lmms-eval":
        if rows is not None:
            return questions_of_rows(task.name, rows)
        return _documents(task, folder)
    questions = _original(task, folder / task.questions)
    annotate = _ANNOTATE.get(task.name)
    if not annotated or annotate is None or task.annotations is None:
        return questions
    return annotate(questions, folder / task.annotations)


def question_text(task: Task, protocol: Protocol, question: Question) -> str:
    """
    What is asked, without the image marker.

    Args:
        task ([`Task`]): Of the question.
        protocol (`str`): In whose words.
        question ([`Question`]): As `read_questions` has it for that protocol.
    """
    if protocol == "lmms-eval":
        return lmms_text(task.name, question)
    if task.name in _LANGUAGES:
        return with_letter_prompt(mmbench_text(question), language=_LANGUAGES[task.name])
    return with_letter_prompt(question.text) if task.name == "scienceqa" else question.text


def question_turn(task: Task, protocol: Protocol, question: Question, *, use_im_start_end: bool = False) -> str:
    """The user's whole turn: `question_text` behind the image marker, if there is an image."""
    text = question_text(task, protocol, question)
    return user_text(text, has_image=question.image is not None, use_im_start_end=use_im_start_end)


def _original(task: Task, path: Path) -> tuple[Question, ...]:
    if task.name == "scienceqa":
        return read_scienceqa(path)
    return read_mmbench(path) if task.name in _LANGUAGES else read_question_file(path)


def _documents(task: Task, folder: Path) -> tuple[Question, ...]:
    path = folder / task.questions
    if task.name in _LANGUAGES:
        return mmbench_documents(path)
    if task.name in ("llava_bench", "mmvet"):
        return read_question_file(path)
    if task.annotations is None or task.name == "gqa":
        raise QuestionsError(
            f"lmms-eval asks {task.name} with other questions than the files of LLaVA-1.5 hold. Give the rows of "
            f"{task.protocol('lmms-eval').hub}, split {task.protocol('lmms-eval').split}."
        )
    annotations = folder / task.annotations
    if task.name == "pope":
        return pope_documents(annotate_pope(read_question_file(path), annotations))
    if task.name == "mme":
        return mme_documents(annotate_mme(read_question_file(path), annotations))
    if task.name == "textvqa":
        return textvqa_documents(annotations)
    return scienceqa_documents(annotations) if task.name == "scienceqa" else seed_bench_documents(annotations)


__all__ = ["question_text", "question_turn", "read_questions"]
