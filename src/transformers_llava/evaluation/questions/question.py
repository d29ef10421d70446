"""Define what a benchmark asks, and the answers that a model gave to it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace


Key = int | str  # as the question file writes it: 17 and "17" are two ids, as they are in the original scripts


@dataclass(frozen=True)
class Question:
    """
    One question of a benchmark.

    Args:
        key (`int` or `str`): Names the question; no two questions of a task share one.
        id (`int` or `str`): What the file calls it. MME and TextVQA give all questions about an image the same id.
        text (`str`): What is asked, as the file has it: with the closing instruction where the file has that.
        image (`str`, `bytes` or `None`): Path below the image folder, or the encoded file; `None` without an image.
        answers (`tuple[str, ...]`): What is right, where the files say so: ten answers of VQA data sets, else one.
        options (`tuple[str, ...]`): Choices of a multiple choice question, in order.
        hint (`str`, *optional*): What stands before the question; the annotation's wording of MME; OCR tokens of
            TextVQA for lmms-eval. `None` without one.
        category (`str`): Split of POPE, category of MME and MMBench, question type of SEED-Bench.
        category_id (`int`): Number of the category, by which SEED-Bench sorts.
        subset (`str`): `image` or `video` of SEED-Bench, the wider category of MMBench.
    """

    key: Key
    id: Key
    text: str
    image: str | bytes | None = None
    answers: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    hint: str | None = None
    category: str = ""
    category_id: int = 0
    subset: str = ""

    @property
    def truth(self) -> str:
        """The one right answer.

        Raises:
            ValueError: The files of this question give none, or several.
        """
        if len(self.answers) != 1:
            raise ValueError(
                f"question {self.key!r} has {len(self.answers)} right answers where one is needed, so its answer "
                "cannot be scored. Read the questions together with their annotations."
            )
        return self.answers[0]


@dataclass(frozen=True)
class Answer:
    """One line of an answers file: the id that the question file gives, the prompt as noted there, the text."""

    question_id: Key
    text: str
    prompt: str = ""


def with_unique_keys(questions: Iterable[Question]) -> tuple[Question, ...]:
    """
    Number the questions that share an id: `"a.jpg"` twice becomes the keys `"a.jpg#1"` and `"a.jpg#2"`.

    Ids that stand once remain keys, with their type.
    """
    questions = list(questions)
    total = Counter(question.id for question in questions)
    seen: Counter[Key] = Counter()
    keyed = []
    for question in questions:
        seen[question.id] += 1
        key = question.id if total[question.id] == 1 else f"{question.id}#{seen[question.id]}"
        keyed.append(replace(question, key=key))
    keys = Counter(question.key for question in keyed)
    double = [key for key, count in keys.items() if count > 1]
    if double:
        raise ValueError(
            f"two questions would be called {double[0]!r}, because an id of the file ends in a number after '#'. "
            "Answers could not be told apart; rename that id in the question file."
        )
    return tuple(keyed)


__all__ = ["Answer", "Key", "Question", "with_unique_keys"]
