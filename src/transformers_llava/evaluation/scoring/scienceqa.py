"""Score ScienceQA: a letter among the options, of all questions and of those with an image."""

import re
from collections.abc import Mapping, Sequence

from transformers_llava.evaluation.questions.question import Key, Question
from transformers_llava.evaluation.scoring.verdicts import TaskResult, Verdict, mean_score, notes_of


OPTION_LETTERS = ("A", "B", "C", "D", "E")
NOT_PARSED = "FAILED"  # what the original writes for an answer without a letter
_SENTENCE = re.compile(r"The answer is ([A-Z]).")


def parse_scienceqa_answer(text: str) -> str:
    """
    Read the letter as `eval_science_qa.py`: alone, before `". "`, or in the only sentence `The answer is X`.

    Returns:
        `str`: A letter, which may be none of the question's options; `FAILED` if there is none.

    Example:

        >>> [parse_scienceqa_answer(text) for text in ("B", "B. none", "The answer is B.", "b", "B.")]
        ['B', 'B', 'B', 'FAILED', 'FAILED']
    """
    if text in OPTION_LETTERS:
        return text
    if text[:1] in OPTION_LETTERS and text[1:3] == ". ":
        return text[0]
    found = _SENTENCE.findall(text)
    return found[0] if len(found) == 1 else NOT_PARSED


def option_index(letter: str, num_options: int) -> int:
    """Position of a letter among the first `num_options`; -1 if it is none of them."""
    letters = OPTION_LETTERS[:num_options]
    return letters.index(letter) if letter in letters else -1


def score_scienceqa(questions: Sequence[Question], texts: Mapping[Key, str]) -> TaskResult:
    """
    Score ScienceQA as LLaVA's `eval_science_qa.py`, in percent: questions with an image (reported), and all.

    Whether a question has an image is read from the questions, not from the prompts in the answers file: a question
    without an answer stays among those with an image.

    Args:
        questions (`Sequence[Question]`): `options` in order, `answers` is the letter of the right one.
        texts (`Mapping`): Key of a question to what the model said.
    """
    verdicts = []
    for question in questions:
        text = texts.get(question.key)
        parsed = "" if text is None else parse_scienceqa_answer(text)
        is_right = option_index(parsed, len(question.options)) == OPTION_LETTERS.index(question.truth)
        verdicts.append(Verdict(question.key, text, parsed, question.truth, float(is_right), question.category))
    with_image = [v for v, question in zip(verdicts, questions) if question.image is not None]
    scores = [mean_score("accuracy", verdicts, unit="percent")]
    if with_image:
        scores.insert(0, mean_score("image_accuracy", with_image, unit="percent"))
    return TaskResult("llava-1.5", tuple(verdicts), tuple(scores), notes_of(verdicts, scores))


def score_scienceqa_lmms(questions: Sequence[Question], texts: Mapping[Key, str]) -> TaskResult:
    """
    Score ScienceQA as lmms-eval: the letter in either case, or a capital before a full stop.

    `exact_match` is over the questions with an image, as its task `scienceqa_img`; `exact_match_all` over all.
    """
    verdicts = []
    for question in questions:
        text = texts.get(question.key)
        parsed = "" if text is None else _parse_lmms(text, question.truth)
        is_right = parsed.lower() == question.truth.strip().lower()
        verdicts.append(Verdict(question.key, text, parsed, question.truth, float(is_right), question.category))
    with_image = [v for v, question in zip(verdicts, questions) if question.image is not None]
    scores = [mean_score("exact_match_all", verdicts)]
    if with_image:
        scores.insert(0, mean_score("exact_match", with_image))
    return TaskResult("lmms-eval", tuple(verdicts), tuple(scores), notes_of(verdicts, scores))


def _parse_lmms(text: str, truth: str) -> str:
    text = text.strip()
    if text.lower() != truth.strip().lower() and text[:1].isupper() and text[1:2] == ".":
        return text[0]
    return text


__all__ = [
    "NOT_PARSED",
    "OPTION_LETTERS",
    "option_index",
    "parse_scienceqa_answer",
    "score_scienceqa",
    "score_scienceqa_lmms",
]
