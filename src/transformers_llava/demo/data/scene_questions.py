"""Describe a scene, and ask questions about it that have one right answer."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers_llava.demo.data.scene_compositions import SHAPES, WARM_COLORS, Scene


# The two prompts of LLaVA-1.5's data for short and for multiple-choice answers.
SHORT_ANSWER_PROMPT = "Answer the question using a single word or phrase."
CHOICE_PROMPT = "Answer with the option's letter from the given choices directly."

_NUMBER_WORDS = ("zero", "one", "two", "three", "four")
_LETTERS = "ABCD"


@dataclass(frozen=True)
class Question:
    """One question about a scene. Answers are balanced among the questions of the same `question_type`."""

    question_type: str
    text: str
    answer: str


def describe_scene(scene: Scene) -> str:
    """
    A caption that carries everything the questions ask for.

    Example: `three red circles: top left, top right, bottom left.`
    """
    noun = scene.shape if scene.count == 1 else _plural(scene.shape)
    return f"{_NUMBER_WORDS[scene.count]} {scene.color} {noun}: {', '.join(scene.cells)}."


def list_questions(scene: Scene, question_type: str, rng: random.Random) -> list[Question]:
    """The questions of `question_type` with one right answer for `scene`; none where it does not allow any."""
    return [Question(question_type, text, answer) for text, answer in _QUESTION_MAKERS[question_type](scene, rng)]


def choose_question(
    scene: Scene, question_type: str, rng: random.Random, asked: Counter[tuple[str, str]]
) -> Question | None:
    """
    The question whose answer was given least so far, which keeps the answers of each type balanced.

    Args:
        scene (`Scene`): What the image shows.
        question_type (`str`): One of [`QUESTION_TYPES`].
        rng (`random.Random`): Breaks ties.
        asked (`Counter`): How often each (type, answer) was used; the chosen question is added.

    Returns:
        `Question`, or `None` where the scene allows no question of this type (a single shape to be found among four).
    """
    candidates = list_questions(scene, question_type, rng)
    if not candidates:
        return None
    rng.shuffle(candidates)
    question = min(candidates, key=lambda candidate: asked[question_type, candidate.answer])
    asked[question_type, question.answer] += 1
    return question


_Pairs = list[tuple[str, str]]


def _ask_color(scene: Scene, rng: random.Random) -> _Pairs:
    return [("What color is shown?", scene.color)]


def _ask_shape(scene: Scene, rng: random.Random) -> _Pairs:
    return [("What shape is shown?", scene.shape)]


def _ask_count(scene: Scene, rng: random.Random) -> _Pairs:
    return [("How many shapes are there?", str(scene.count))]


def _ask_place(scene: Scene, rng: random.Random) -> _Pairs:
    return [("Where is the shape?", scene.cells[0])] if scene.count == 1 else []


def _ask_if_several(scene: Scene, rng: random.Random) -> _Pairs:
    return [("Is there more than one shape?", "Yes" if scene.count > 1 else "No")]


def _ask_if_warm(scene: Scene, rng: random.Random) -> _Pairs:
    return [("Is it a warm color?", "Yes" if scene.color in WARM_COLORS else "No")]


def _ask_shape_choice(scene: Scene, rng: random.Random) -> _Pairs:
    return [_choice("What shape is shown?", SHAPES, scene.shape)]


def _ask_count_choice(scene: Scene, rng: random.Random) -> _Pairs:
    return [_choice("How many shapes are there?", _NUMBER_WORDS[1:], _NUMBER_WORDS[scene.count])]


def _choice(question: str, options: Sequence[str], right: str) -> tuple[str, str]:
    """The question with lettered options, in LLaVA's format, and the letter of the right one."""
    lines = [f"{letter}. {option}" for letter, option in zip(_LETTERS, options, strict=True)]
    return "\n".join([question, *lines, CHOICE_PROMPT]), _LETTERS[options.index(right)]


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


_QUESTION_MAKERS: dict[str, Callable[[Scene, random.Random], _Pairs]] = {
    "color": _ask_color,
    "shape": _ask_shape,
    "count": _ask_count,
    "place": _ask_place,
    "several": _ask_if_several,
    "warm": _ask_if_warm,
    "shape_choice": _ask_shape_choice,
    "count_choice": _ask_count_choice,
}
QUESTION_TYPES = tuple(_QUESTION_MAKERS)


__all__ = [
    "CHOICE_PROMPT",
    "QUESTION_TYPES",
    "Question",
    "SHORT_ANSWER_PROMPT",
    "choose_question",
    "describe_scene",
    "list_questions",
]
