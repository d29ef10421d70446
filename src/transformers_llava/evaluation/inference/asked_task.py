"""Prepare a task for asking: its questions, and the proof that every image and right answer is there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers_llava.data.images.paths import resolve_image
from transformers_llava.data.schema import ImageReference, RecordError
from transformers_llava.evaluation.asking import read_questions
from transformers_llava.evaluation.questions.question import Question
from transformers_llava.evaluation.questions.question_lines import QuestionsError
from transformers_llava.evaluation.rescoring import questions_digest
from transformers_llava.evaluation.scoring.verdicts import Protocol
from transformers_llava.evaluation.tasks import Task


@dataclass(frozen=True)
class AskedTask:
    """
    Questions that are to be asked.

    Args:
        task ([`Task`]): Which.
        protocol (`str`): In whose words.
        questions (`tuple[Question, ...]`): In the order of the task; the first ones if there is a limit.
        num_available (`int`): Questions of the task.
        data_digest (`str`): Of all of them.
        image_folder (`Path` or `None`): In which the images lie; `None` where the question file holds them.
    """

    task: Task
    protocol: Protocol
    questions: tuple[Question, ...]
    num_available: int
    data_digest: str
    image_folder: Path | None

    def reference(self, image: str | bytes) -> ImageReference:
        """
        Where an image is; no file is opened.

        Raises:
            `RecordError`: A path leaves the image folder, or is an address.
        """
        return {"bytes": image, "path": None} if isinstance(image, bytes) else resolve_image(image, self.image_folder)


def prepare_task(task: Task, protocol: Protocol, data_root: str | Path, *, limit: int | None = None) -> AskedTask:
    """
    Read the questions of a task, and look for what would be missed only after hours of asking.

    Args:
        task ([`Task`]): Which.
        protocol (`str`): In whose words.
        data_root (`str` or `Path`): What the original calls `playground/data/eval`.
        limit (`int`, *optional*): Ask the first questions only; every result is partial then.

    Raises:
        `QuestionsError`: A file of questions, right answers or an image is missing; names it.
        ValueError: The limit is below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"the limit is {limit} questions, so nothing would be asked. Set it to 1 or more.")
    available = read_questions(task, protocol, data_root, annotated=False)
    if not available:
        raise QuestionsError(f"{task.name} has no question in '{data_root}', so there is nothing to ask.")
    if task.protocol(protocol).scorer is not None:
        read_questions(task, protocol, data_root)  # raises where a question has no right answer
    folder = None if task.images is None else Path(data_root) / task.folder / task.images
    asked = AskedTask(
        task=task,
        protocol=protocol,
        questions=available[:limit],
        num_available=len(available),
        data_digest=questions_digest(task, protocol, available),
        image_folder=folder,
    )
    _check_images(asked, asked.questions)
    return asked


def _check_images(asked: AskedTask, questions: Sequence[Question]) -> None:
    missing: dict[str, str] = {}
    for image in dict.fromkeys(question.image for question in questions):
        if not isinstance(image, str):
            continue
        try:
            path = asked.reference(image)["path"]
        except RecordError as error:
            raise QuestionsError(f"{asked.task.name} asks about an image that cannot be read: {error}") from error
        if path is None or not Path(path).is_file():
            missing[image] = str(path)
    if missing:
        raise QuestionsError(
            f"{len(missing)} images that {asked.task.name} asks about do not exist, such as "
            f"'{next(iter(missing.values()))}'. Nothing is asked; `llava evaluate --list --tasks {asked.task.name}` "
            "says where they come from."
        )


__all__ = ["AskedTask", "prepare_task"]
