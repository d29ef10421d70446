"""Score answers that are right as a whole or not at all: GQA, and tasks of a user's own."""

import string
from collections.abc import Callable, Mapping, Sequence

from transformers_llava.evaluation.questions.question import Key, Question
from transformers_llava.evaluation.scoring.verdicts import Protocol, TaskResult, Unit, Verdict, mean_score, notes_of


_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def gqa_prediction(text: str) -> str:
    """What LLaVA uploads for GQA: in lower case, without full stops at the end."""
    return text.rstrip(".").lower()


def score_gqa(questions: Sequence[Question], texts: Mapping[Key, str]) -> TaskResult:
    """
    Score GQA as its authors' `eval.py` scores LLaVA's upload, in percent: the prediction equals the answer.

    Args:
        questions (`Sequence[Question]`): With one answer each, of `testdev_balanced_questions.json`.
        texts (`Mapping`): Key of a question to what the model said.
    """

    def is_right(text: str, truth: str) -> bool:
        return gqa_prediction(text) == truth

    return _score("llava-1.5", "accuracy", "percent", questions, texts, gqa_prediction, is_right)


def score_gqa_lmms(questions: Sequence[Question], texts: Mapping[Key, str]) -> TaskResult:
    """Score GQA as lmms-eval's `gqa`: equal without case and punctuation."""

    def is_right(text: str, truth: str) -> bool:
        return ignore_case_and_punctuation(text) == ignore_case_and_punctuation(truth)

    return _score("lmms-eval", "exact_match", "share", questions, texts, ignore_case_and_punctuation, is_right)


def ignore_case_and_punctuation(text: str) -> str:
    """
    What lmms-eval's `exact_match` compares: lower case, no ASCII punctuation.

    It works on numpy arrays as wide as the longest text, so a lower case that is longer than its capital is cut off:
    the dotted capital I takes two characters. Null characters at the end are lost too.
    """
    text = text.rstrip("\0")
    return text.lower()[: len(text)].translate(_WITHOUT_PUNCTUATION).rstrip("\0")


def score_exact_match(
    questions: Sequence[Question], texts: Mapping[Key, str], *, normalize: Callable[[str], str] | None = None
) -> TaskResult:
    """
    Score a user's own task: right if the answer equals one of the question's after `normalize`.

    Args:
        questions (`Sequence[Question]`): With one or more right answers each.
        texts (`Mapping`): Key of a question to what the model said.
        normalize (`Callable`, *optional*): Of answer and truth; by default case, outer white space and a final full
            stop do not matter.
    """
    clean = normalize or _normalize
    verdicts = []
    for question in questions:
        if not question.answers:
            raise ValueError(
                f"question {question.key!r} has no right answer, so it cannot be scored. Add `answers` to its line."
            )
        text = texts.get(question.key)
        parsed = "" if text is None else clean(text)
        is_right = text is not None and parsed in {clean(answer) for answer in question.answers}
        verdicts.append(Verdict(question.key, text, parsed, question.answers[0], float(is_right), question.category))
    scores = (mean_score("accuracy", verdicts, unit="percent"),)
    return TaskResult("llava-1.5", tuple(verdicts), scores, notes_of(verdicts, scores))


def _normalize(text: str) -> str:
    return text.strip().removesuffix(".").strip().casefold()


def _score(
    protocol: Protocol,
    name: str,
    unit: Unit,
    questions: Sequence[Question],
    texts: Mapping[Key, str],
    parse: Callable[[str], str],
    is_right: Callable[[str, str], bool],
) -> TaskResult:
    verdicts = []
    for question in questions:
        text = texts.get(question.key)
        points = 0.0 if text is None else float(is_right(text, question.truth))
        parsed = "" if text is None else parse(text)
        verdicts.append(Verdict(question.key, text, parsed, question.truth, points, question.category))
    scores = (mean_score(name, verdicts, unit=unit),)
    return TaskResult(protocol, tuple(verdicts), scores, notes_of(verdicts, scores))


__all__ = [
    "gqa_prediction",
    "ignore_case_and_punctuation",
    "score_exact_match",
    "score_gqa",
    "score_gqa_lmms",
]
