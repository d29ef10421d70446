"""Hold verdicts and scores, with what each score is made of, so that its interval can be drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from transformers_llava.evaluation.questions.question import Key


Protocol = Literal["llava-1.5", "lmms-eval"]
Unit = Literal["percent", "share", "points"]
# From the sums of a score's columns, each an array over resamples, to its value.
Combine = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Verdict:
    """
    What became of one question.

    Args:
        key (`int` or `str`): Of the question.
        answer (`str` or `None`): What the model said; `None` if there is no answer, which is never right.
        parsed (`str`): What the protocol reads out of it, such as `yes` or `B`.
        truth (`str`): What is right.
        score (`float`): 0 to 1.
        category (`str`): As in `Question`.
    """

    key: Key
    answer: str | None
    parsed: str
    truth: str
    score: float
    category: str = ""


@dataclass(frozen=True)
class Score:
    """
    A number with the parts it was computed from.

    Args:
        name (`str`): Such as `accuracy` or `f1`.
        value (`float` or `None`): `None` where it is not defined, such as a precision when nobody said yes.
        unit (`str`): `percent` (0 to 100), `share` (0 to 1) or `points`.
        num_units (`int`): Rows: questions, or images for MME.
        columns (`tuple[tuple[float, ...], ...]`): One column per sum that the score needs, each `num_units` long.
        combine (`Callable`): Sums of the columns to the value.
    """

    name: str
    value: float | None
    unit: Unit
    num_units: int
    columns: tuple[tuple[float, ...], ...] = field(repr=False)
    combine: Combine = field(repr=False, compare=False)

    def interval(self, *, level: float = 0.95, num_resamples: int = 1000, seed: int = 0) -> tuple[float, float] | None:
        """
        Percentile bootstrap over the units: drawn with replacement, as many as there are.

        Args:
            level (`float`, *optional*, defaults to 0.95): Share of resamples inside.
            num_resamples (`int`, *optional*, defaults to 1000): Resamples.
            seed (`int`, *optional*, defaults to 0): Of the draws; equal seeds give equal intervals.

        Returns:
            `tuple[float, float]`: In the unit of the score; `None` if the score has no value or no resample has one.
        """
        if self.value is None or self.num_units == 0:
            return None
        columns = np.asarray(self.columns, dtype=np.float64)  # (num_columns, num_units)
        random = np.random.default_rng(seed)
        values = []
        step = max(1, 2_000_000 // self.num_units)  # counts of at most 16 MB at once
        for start in range(0, num_resamples, step):
            rows = min(step, num_resamples - start)
            places = random.integers(0, self.num_units, size=(rows, self.num_units), dtype=np.int32)
            places += np.arange(rows, dtype=np.int32)[:, None] * self.num_units  # a resample after the other
            counts = np.bincount(places.ravel(), minlength=places.size).reshape(places.shape)
            with np.errstate(divide="ignore", invalid="ignore"):
                values.append(np.broadcast_to(self.combine(*(columns @ counts.T.astype(np.float64))), (rows,)))
        defined = np.concatenate(values)
        defined = defined[np.isfinite(defined)]
        if len(defined) == 0:
            return None
        low, high = np.percentile(defined, [50 * (1 - level), 50 * (1 + level)])
        return float(low), float(high)


@dataclass(frozen=True)
class TaskResult:
    """
    Every verdict of a task under one protocol, and the scores.

    Args:
        protocol (`str`): `llava-1.5` or `lmms-eval`; a number without it means nothing.
        verdicts (`tuple[Verdict, ...]`): One per question, in the order of the questions.
        scores (`tuple[Score, ...]`): The first one is what papers report.
        notes (`tuple[str, ...]`): What a reader of the numbers must know: questions without an answer, scores that
            are not defined.
    """

    protocol: Protocol
    verdicts: tuple[Verdict, ...]
    scores: tuple[Score, ...]
    notes: tuple[str, ...] = ()

    @property
    def num_questions(self) -> int:
        return len(self.verdicts)

    @property
    def num_unanswered(self) -> int:
        return sum(verdict.answer is None for verdict in self.verdicts)

    @property
    def num_empty(self) -> int:
        """Answers without a character but white space; POPE's rule takes them for yes."""
        return sum(verdict.answer is not None and not verdict.answer.strip() for verdict in self.verdicts)

    @property
    def values(self) -> dict[str, float | None]:
        """Names of scores to their values."""
        return {score.name: score.value for score in self.scores}


def mean_score(name: str, verdicts: Sequence[Verdict], *, value: float | None = None, unit: Unit = "share") -> Score:
    """
    Average the scores of verdicts; a question without an answer counts as wrong.

    Args:
        name (`str`): Of the score.
        verdicts (`Sequence[Verdict]`): Over which; if none of them was answered the score has no value.
        value (`float`, *optional*): The value where a protocol adds up in an order of its own; else the mean.
        unit (`str`, *optional*, defaults to `"share"`): `percent` multiplies by 100.
    """
    factor = 100.0 if unit == "percent" else 1.0
    points = tuple(verdict.score for verdict in verdicts)
    if all(verdict.answer is None for verdict in verdicts):
        value = None
    elif value is None:
        value = sum(points) / len(points) * factor
    ones = (1.0,) * len(points)
    return Score(name, value, unit, len(points), (points, ones), lambda total, count: factor * total / count)


def notes_of(verdicts: Sequence[Verdict], scores: Sequence[Score] = ()) -> tuple[str, ...]:
    """Say how many questions have no answer or an empty one, and which scores have no value."""
    notes = []
    unanswered = [verdict.key for verdict in verdicts if verdict.answer is None]
    if unanswered:
        named = ", ".join(repr(key) for key in unanswered[:3]) + (", ..." if len(unanswered) > 3 else "")
        notes.append(f"{len(unanswered)} of {len(verdicts)} questions have no answer and count as wrong: {named}.")
    empty = sum(verdict.answer is not None and not verdict.answer.strip() for verdict in verdicts)
    if empty:
        notes.append(f"{empty} of {len(verdicts)} answers are empty; the rule of the protocol reads them as any text.")
    notes += [f"{score.name} is not defined for these answers." for score in scores if score.value is None]
    return tuple(notes)


__all__ = ["Combine", "Protocol", "Score", "TaskResult", "Unit", "Verdict", "mean_score", "notes_of"]
