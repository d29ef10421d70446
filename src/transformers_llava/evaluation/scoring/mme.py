"""Score MME: two yes-or-no questions per image, in ten categories of perception and four of cognition."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from transformers_llava.evaluation.questions.question import Key, Question
from transformers_llava.evaluation.scoring.verdicts import Protocol, Score, TaskResult, Verdict, notes_of


PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
NUM_PER_IMAGE = 2


@dataclass(frozen=True)
class MmeImage:
    """The verdicts of one image: how many of its questions there are, and how many are right."""

    category: str
    num_questions: int
    num_right: int

    @property
    def is_right(self) -> bool:
        return self.num_right == NUM_PER_IMAGE


def parse_mme_answer(text: str) -> str:
    """
    Read an answer as the authors' `calculation.py`: the word, else what its first four characters contain.

    Example:

        >>> parse_mme_answer("Notre-Dame"), parse_mme_answer("I know"), parse_mme_answer("y")
        ('no', 'other', 'other')
    """
    return _from_prefix(text.lower())


def parse_mme_answer_lmms(text: str) -> str:
    """Read an answer as lmms-eval: without its full stops and outer white space; y and n alone count too."""
    text = text.lower().strip().replace(".", "")
    return {"y": "yes", "n": "no"}.get(text, _from_prefix(text))


def score_mme(questions: Sequence[Question], texts: Mapping[Key, str]) -> TaskResult:
    """
    Score MME as its authors' `calculation.py`: Perception (what LLaVA reports, at most 2000) and Cognition (800).

    A category's score is 100 x the share of right questions + 100 x the share of images with both right.

    Args:
        questions (`Sequence[Question]`): `answers` is `("yes",)` or `("no",)` in any case, `id` names the image.
        texts (`Mapping`): Key of a question to what the model said.
    """
    verdicts = _verdicts(questions, texts, parse_mme_answer)
    return _result("llava-1.5", questions, verdicts, {"Perception": PERCEPTION, "Cognition": COGNITION})


def score_mme_lmms(questions: Sequence[Question], texts: Mapping[Key, str]) -> TaskResult:
    """Score MME as lmms-eval's `mme`; every category that is none of Perception's is one of Cognition's."""
    verdicts = _verdicts(questions, texts, parse_mme_answer_lmms)
    others = tuple({question.category: None for question in questions if question.category not in PERCEPTION})
    groups = {"mme_perception_score": PERCEPTION, "mme_cognition_score": others}
    return _result("lmms-eval", questions, verdicts, groups)


def _from_prefix(text: str) -> str:
    prefix = text[:4]
    return "yes" if "yes" in prefix else "no" if "no" in prefix else "other"


def _verdicts(
    questions: Sequence[Question], texts: Mapping[Key, str], parse: Callable[[str], str]
) -> tuple[Verdict, ...]:
    verdicts = []
    for question in questions:
        text = texts.get(question.key)
        truth = question.truth.lower().strip().replace(".", "")
        if truth not in ("yes", "no"):
            raise ValueError(
                f"question {question.key!r} of MME has the answer {question.truth!r} where Yes or No is needed, so it "
                "cannot be scored. Use the annotation files as published."
            )
        parsed = "" if text is None else parse(text)
        verdicts.append(Verdict(question.key, text, parsed, truth, float(parsed == truth), question.category))
    return tuple(verdicts)


def _result(
    protocol: Protocol,
    questions: Sequence[Question],
    verdicts: tuple[Verdict, ...],
    groups: Mapping[str, Sequence[str]],
) -> TaskResult:
    images = _images(questions, verdicts)
    order = {category: [image for image in images if image.category == category] for category in _order(images)}
    answered = {verdict.category for verdict in verdicts if verdict.answer is not None}
    scores = []
    for name, categories in groups.items():
        present = [category for category in categories if category in order]
        values = [_category_value(order[category]) for category in present if category in answered]
        value = sum(values) if values and len(values) == len(present) else None
        scores.append(_score(name, value, images, present))
    for category in order:
        value = _category_value(order[category]) if category in answered else None
        scores.append(_score(f"category/{category}", value, order[category], [category]))
    incomplete = sum(image.num_questions != NUM_PER_IMAGE for image in images)
    notes = list(notes_of(verdicts, [score for score in scores if score.num_units]))
    if incomplete:
        notes.append(
            f"{incomplete} images have not two questions; none of them can have both right, as accuracy+ asks for."
        )
    missing = [category for category in PERCEPTION + COGNITION if category not in order]
    if missing:
        notes.append(f"There is no question of {', '.join(missing)}; the sums are over the others.")
    return TaskResult(protocol, verdicts, tuple(scores), tuple(notes))


def _order(images: Sequence[MmeImage]) -> list[str]:
    present = {image.category for image in images}
    known = [category for category in PERCEPTION + COGNITION if category in present]
    return known + sorted(present - set(known))


def _images(questions: Sequence[Question], verdicts: Sequence[Verdict]) -> list[MmeImage]:
    right: dict[tuple[str, Key], list[float]] = defaultdict(list)
    for question, verdict in zip(questions, verdicts, strict=True):
        right[question.category, question.id].append(verdict.score)
    return [MmeImage(category, len(scores), int(sum(scores))) for (category, _), scores in right.items()]


def _category_value(images: Sequence[MmeImage]) -> float:
    num_questions = sum(image.num_questions for image in images)
    accuracy = sum(image.num_right for image in images) / num_questions
    accuracy_plus = sum(image.is_right for image in images) / len(images)
    return accuracy * 100 + accuracy_plus * 100


def _score(name: str, value: float | None, images: Sequence[MmeImage], categories: Sequence[str]) -> Score:
    columns: list[tuple[float, ...]] = []
    for category in categories:
        mine = [image if image.category == category else MmeImage(category, 0, 0) for image in images]
        columns += [
            tuple(float(image.num_right) for image in mine),
            tuple(float(image.num_questions) for image in mine),
            tuple(float(image.is_right) for image in mine),
            tuple(float(image.num_questions > 0) for image in mine),
        ]
    return Score(name, value, "points", len(images), tuple(columns), _combine)


def _combine(*sums: np.ndarray) -> np.ndarray:
    parts = [
        100 * right / questions + 100 * both / images
        for right, questions, both, images in zip(sums[::4], sums[1::4], sums[2::4], sums[3::4])
    ]
    return np.sum(parts, axis=0)


__all__ = [
    "COGNITION",
    "NUM_PER_IMAGE",
    "PERCEPTION",
    "MmeImage",
    "parse_mme_answer",
    "parse_mme_answer_lmms",
    "score_mme",
    "score_mme_lmms",
]
