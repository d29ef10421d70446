"""Compare two predictions files of a task: which answers differ, and what the gap between their scores is made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Literal

from transformers_llava.artifacts.evaluation_files.predictions import Prediction, PredictionsFile
from transformers_llava.evaluation.asking import question_text
from transformers_llava.evaluation.prompts import lmms_text
from transformers_llava.evaluation.questions.annotations import textvqa_question_of
from transformers_llava.evaluation.questions.question import Key, Question
from transformers_llava.evaluation.scorers import scorer_of
from transformers_llava.evaluation.scoring.verdicts import Protocol
from transformers_llava.evaluation.tasks import PROTOCOLS, Task


Cause = Literal["subset", "normalization", "ocr", "prompt", "decoding", "model", "runtime"]
_NAMES: dict[Cause, str] = {
    "subset": "questions that only one of them answered",
    "normalization": "the same answers, read and summed up by the other rule",
    "ocr": "text that an OCR system read, in one prompt and not in the other",
    "prompt": "questions in other words",
    "decoding": "other settings of generate",
    "model": "other weights",
    "runtime": "the same weights and settings with other answers: libraries, precision, or the machine",
}


class ComparisonError(ValueError):
    """Two results cannot be compared; says why."""


@dataclass(frozen=True)
class Difference:
    """A question that two files answer with other tokens."""

    name: str
    first: Prediction
    second: Prediction


@dataclass(frozen=True)
class Side:
    """
    One of the two results.

    Args:
        file ([`PredictionsFile`]): Its answers.
        questions (`Sequence[Question]`): Of the task as its protocol words and scores them.
    """

    file: PredictionsFile
    questions: Sequence[Question]

    @property
    def protocol(self) -> Protocol:
        return next(name for name in PROTOCOLS if name == self.file.header.protocol)


@dataclass(frozen=True)
class Part:
    """
    What one cause adds to the second score.

    Args:
        cause (`str`): Such as `prompt`.
        amount (`Fraction`): Exact, so that the parts of a gap sum to it; `float(amount)` to print.
        num_questions (`int`): Whose answer or reading it is about.
    """

    cause: Cause
    amount: Fraction
    num_questions: int

    @property
    def meaning(self) -> str:
        return _NAMES[self.cause]


@dataclass(frozen=True)
class Explanation:
    """
    A gap between two headline scores, in parts.

    Args:
        first (`Fraction`): The first score: a share, or points for MME.
        second (`Fraction`): The second.
        parts (`tuple[Part, ...]`): Their amounts sum to `second - first`.
    """

    first: Fraction
    second: Fraction
    parts: tuple[Part, ...]

    @property
    def gap(self) -> Fraction:
        return self.second - self.first


def differing_answers(task: Task, first: Side, second: Side) -> tuple[Difference, ...]:
    """
    The questions that both answered, with other tokens, in the order of the first.

    Raises:
        `ComparisonError`: They have no question in common.
    """
    ours, theirs = _answers(task, first), _answers(task, second)
    common = _common(task, ours, theirs)
    return tuple(
        Difference(name, ours[name], theirs[name])
        for name in common
        if (ours[name].token_ids, ours[name].text) != (theirs[name].token_ids, theirs[name].text)
    )


def explain(task: Task, first: Side, second: Side) -> Explanation:
    """
    Split the gap between two headline scores over its causes.

    The way from the first to the second is walked step by step, and each step's change of the score is its part, so
    the parts sum to the gap exactly: first only the questions that both answered, then the second's rule on the
    first's answers, then the second's answers cause by cause: where the prompts differ; where an answer was cut by a
    limit of tokens, or settings differ under the same weights; where weights differ; and the rest.

    Args:
        task ([`Task`]): Of both.
        first ([`Side`]): The result that is explained from.
        second ([`Side`]): The one that is explained to.

    Raises:
        `ComparisonError`: The task is not scored here, a score is not defined, or no question is in common.
    """
    ours, theirs = _answers(task, first), _answers(task, second)
    common = _common(task, ours, theirs)
    start, end = _value(task, first, first, ours, None), _value(task, second, second, theirs, None)
    parts: list[Part] = []
    current = {name: ours[name] for name in common}
    value = _value(task, first, first, current, common)
    whole = _value(task, second, second, {name: theirs[name] for name in common}, common)
    outside = len(ours) + len(theirs) - 2 * len(common)
    parts.append(Part("subset", (value - start) + (end - whole), outside))
    read = _value(task, second, first, current, common)
    parts.append(Part("normalization", read - value, len(common) if first.protocol != second.protocol else 0))
    value = read
    causes = _causes(task, first, second, ours, theirs, common)
    for cause in ("ocr", "prompt", "decoding", "model", "runtime"):
        changed = [name for name in common if causes.get(name) == cause]
        current |= {name: theirs[name] for name in changed}
        after = _value(task, second, first, current, common)
        parts.append(Part(cause, after - value, len(changed)))
        value = after
    return Explanation(start, end, tuple(parts))


def _causes(
    task: Task,
    first: Side,
    second: Side,
    ours: Mapping[str, Prediction],
    theirs: Mapping[str, Prediction],
    common: Sequence[str],
) -> dict[str, Cause]:
    """Why each answer that differs does."""
    header, other = first.file.header, second.file.header
    same_weights = header.model_digest is not None and header.model_digest == other.model_digest
    same_weights = same_weights or (header.model_digest is None and header.model == other.model)
    same_settings = dict(header.decoding) == dict(other.decoding)
    is_ocr = _differs_by_ocr(task, first, second)
    causes: dict[str, Cause] = {}
    for name in common:
        one, two = ours[name], theirs[name]
        if (one.text, one.token_ids) == (two.text, two.token_ids):
            continue
        if one.prompt_digest != two.prompt_digest:
            causes[name] = "ocr" if is_ocr(name) else "prompt"
        elif not same_settings and (same_weights or _was_cut(one, two)):
            causes[name] = "decoding"
        else:
            causes[name] = "runtime" if same_weights else "model"
    return causes


def _was_cut(one: Prediction, two: Prediction) -> bool:
    """Whether one answer is the beginning of the other, cut by its limit of tokens."""
    short, long = sorted((one, two), key=lambda answer: len(answer.token_ids))
    return short.stop_reason == "length" and long.token_ids[: len(short.token_ids)] == short.token_ids


def _differs_by_ocr(task: Task, first: Side, second: Side) -> Callable[[str], bool]:
    """Whether the second wording of a question becomes the first, but for case, once OCR tokens are written in."""
    if task.name != "textvqa" or first.protocol == second.protocol:
        return lambda name: False
    sides = {side.protocol: {_name(task, side, q): q for q in side.questions} for side in (first, second)}

    def differs(name: str) -> bool:
        original, harness = sides["llava-1.5"][name], sides["lmms-eval"][name]
        with_tokens = lmms_text(task.name, harness, with_ocr=True)
        return question_text(task, "llava-1.5", original).casefold() == with_tokens.casefold()

    return differs


def _value(
    task: Task, rule: Side, source: Side, answers: Mapping[str, Prediction], names: Sequence[str] | None
) -> Fraction:
    """Headline of answers by a side's rule: over `names`, or over what `source` was to answer."""
    described = task.protocol(rule.protocol)
    if described.scorer is None:
        raise ComparisonError(
            f"{task.name} is not scored here under {rule.protocol}, but by a {described.scored}, so there is no gap "
            "to explain. Its answers can still be compared."
        )
    is_limited = source.file.header.num_questions < source.file.header.num_available
    chosen = set(answers) if names is None and is_limited else None if names is None else set(names)
    questions = [q for q in rule.questions if chosen is None or _name(task, rule, q) in chosen]
    texts: dict[Key, str] = {q.key: answers[name].text for q in questions if (name := _name(task, rule, q)) in answers}
    result = scorer_of(described.scorer)(questions, texts)
    score = next(score for score in result.scores if score.name == described.headline)
    if score.value is None:
        raise ComparisonError(
            f"{score.name} of {task.name} is not defined for the answers that both files have in common, so its gap "
            "cannot be explained. Answer more questions."
        )
    return Fraction(score.value) / (100 if score.unit == "percent" else 1)


def _answers(task: Task, side: Side) -> dict[str, Prediction]:
    names = {question.key: _name(task, side, question) for question in side.questions}
    foreign = [prediction.key for prediction in side.file.predictions if prediction.key not in names]
    if foreign:
        raise ComparisonError(f"{len(foreign)} answers are to no question of {task.name}, such as {foreign[0]!r}.")
    return {names[prediction.key]: prediction for prediction in side.file.predictions}


def _name(task: Task, side: Side, question: Question) -> str:
    """What a question is called under both protocols."""
    if task.name != "textvqa":
        return str(question.key)
    text = textvqa_question_of(question.text) if side.protocol == "llava-1.5" else question.text.lower()
    return f"{PurePosixPath(str(question.image)).stem}: {text}"


def _common(task: Task, ours: Mapping[str, Prediction], theirs: Mapping[str, Prediction]) -> list[str]:
    common = [name for name in ours if name in theirs]
    if not common:
        raise ComparisonError(
            f"the two files of {task.name} answer no question in common, so they cannot be compared. Protocols may "
            "ask different sets, such as test-dev and validation."
        )
    return common


__all__ = ["Cause", "ComparisonError", "Difference", "Explanation", "Part", "Side", "differing_answers", "explain"]
