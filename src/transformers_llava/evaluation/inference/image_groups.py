"""Group questions by image, so that an image is read once, and divide each group into batches of like length."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers_llava.evaluation.questions.question import Question


Batch = tuple[Question, ...]


@dataclass(frozen=True)
class ImageGroup:
    """
    The questions about one image.

    Args:
        image (`str`, `bytes` or `None`): As in `Question`; `None` for questions without an image.
        batches (`tuple[tuple[Question, ...], ...]`): Each is answered together, shortest questions first.
    """

    image: str | bytes | None
    batches: tuple[Batch, ...]


def group_by_image(questions: Sequence[Question], batch_size: int) -> tuple[ImageGroup, ...]:
    """
    Group questions by image, in the order in which images appear; questions without one are groups of one batch.

    Contract: a group depends on the questions and `batch_size` alone, not on what is answered already or by how many
    processes, so that a resumed run computes the same batches.

    Args:
        questions (`Sequence[Question]`): That are asked.
        batch_size (`int`): Most questions of a batch.

    Example:

        Questions a (long) and c (short) about image x, and b about image y, are the groups x: (c, a) and y: (b).
    """
    by_image: dict[str | bytes | None, list[Question]] = {}
    for question in questions:
        by_image.setdefault(question.image, []).append(question)
    groups: list[ImageGroup] = []
    for image, members in by_image.items():
        members = sorted(members, key=lambda question: len(question.text))  # stable
        batches = [tuple(members[start : start + batch_size]) for start in range(0, len(members), batch_size)]
        if image is None:
            groups += [ImageGroup(None, (batch,)) for batch in batches]
        else:
            groups.append(ImageGroup(image, tuple(batches)))
    return tuple(groups)


__all__ = ["Batch", "ImageGroup", "group_by_image"]
