"""Score POPE: is an object in the image, over three splits whose wrong objects are ever harder to tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from transformers_llava.evaluation.questions.question import Key, Question
from transformers_llava.evaluation.scoring.verdicts import Score, TaskResult, Verdict, mean_score, notes_of


def parse_pope_answer(text: str) -> str:
    """
    Read an answer as the original does: no if the first sentence has the word No, no or not; yes otherwise.

    Only spaces part words and only commas are dropped, so `NO`, `nothing` and `"no\\nyes"` are yes.

    Example:

        >>> parse_pope_answer("Yes, there is no doubt. Look.")
        'no'
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


@dataclass(frozen=True)
class PopeCounts:
    """
    Answers of a split against labels. Questions without an answer are in none of the four, but in `num_yes_labels` and
    `num_questions`, so they lower accuracy and recall.
    """

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    num_yes_labels: int
    num_questions: int

    @property
    def num_answered(self) -> int:
        return self.true_positives + self.false_positives + self.true_negatives + self.false_negatives

    @property
    def accuracy(self) -> float | None:
        return _ratio(self.true_positives + self.true_negatives, self.num_questions) if self.num_answered else None

    @property
    def precision(self) -> float | None:
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float | None:
        return _ratio(self.true_positives, self.num_yes_labels) if self.num_answered else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean; 0 where nobody rightly said yes though somebody could have, at which the original stops."""
        if not self.num_answered:
            return None
        precision, recall = self.precision, self.recall
        if not precision or not recall:
            return 0.0 if self.num_yes_labels else None
        return 2 * precision * recall / (precision + recall)

    @property
    def yes_ratio(self) -> float | None:
        return _ratio(self.true_positives + self.false_positives, self.num_answered)


def score_pope(questions: Sequence[Question], texts: Mapping[Key, str]) -> TaskResult:
    """
    Score POPE as LLaVA's `eval_pope.py`, split by split, and the mean of the splits' F1 that the paper reports.

    Args:
        questions (`Sequence[Question]`): `answers` is `("yes",)` or `("no",)`, `category` the split.
        texts (`Mapping`): Key of a question to what the model said.
    """
    verdicts = []
    for question in questions:
        text = texts.get(question.key)
        parsed = "" if text is None else parse_pope_answer(text)
        label = _label(question)
        verdicts.append(Verdict(question.key, text, parsed, label, float(parsed == label), question.category))
    splits = sorted({verdict.category for verdict in verdicts})
    counts = {split: count_pope([v for v in verdicts if v.category == split]) for split in splits}
    f1 = {split: counts[split].f1 for split in splits}
    defined = [value for value in f1.values() if value is not None]
    mean = sum(defined) / len(splits) if splits and len(defined) == len(splits) else None
    columns = tuple(column for split in splits for column in _columns(verdicts, split))
    scores = [Score("f1", mean, "share", len(verdicts), columns, _mean_f1)]
    for split in splits:
        scores += _split_scores(split, [v for v in verdicts if v.category == split], counts[split])
    return TaskResult("llava-1.5", tuple(verdicts), tuple(scores), notes_of(verdicts, scores))


def count_pope(verdicts: Sequence[Verdict]) -> PopeCounts:
    """Count yes and no against the labels."""
    pairs = [(verdict.parsed, verdict.truth) for verdict in verdicts if verdict.answer is not None]
    return PopeCounts(
        true_positives=pairs.count(("yes", "yes")),
        false_positives=pairs.count(("yes", "no")),
        true_negatives=pairs.count(("no", "no")),
        false_negatives=pairs.count(("no", "yes")),
        num_yes_labels=sum(verdict.truth == "yes" for verdict in verdicts),
        num_questions=len(verdicts),
    )


def score_pope_lmms(questions: Sequence[Question], texts: Mapping[Key, str]) -> TaskResult:
    """
    Score POPE as lmms-eval's `pope`: all splits together, and an answer counts only if it is the word yes or no.

    `"Yes."` is wrong and, being neither, in neither precision nor recall; `yes_ratio` is that of the labels.
    """
    verdicts = []
    for question in questions:
        text = texts.get(question.key)
        parsed = "" if text is None else text.lower().strip()
        label = _label(question)
        verdicts.append(Verdict(question.key, text, parsed, label, float(parsed == label), question.category))
    scores = list(_lmms_scores("", verdicts))
    for split in sorted({verdict.category for verdict in verdicts}):
        scores += _lmms_scores(f"{split}/", [verdict for verdict in verdicts if verdict.category == split])
    return TaskResult("lmms-eval", tuple(verdicts), tuple(scores), notes_of(verdicts, scores))


def _label(question: Question) -> str:
    label = question.truth.lower().strip()
    if label not in ("yes", "no"):
        raise ValueError(
            f"question {question.key!r} of POPE has the label {question.truth!r} where yes or no is needed, so it "
            "cannot be scored. Use the annotation files as published."
        )
    return label


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _split_scores(split: str, verdicts: Sequence[Verdict], counts: PopeCounts) -> list[Score]:
    size = len(verdicts)
    tp, fp, labels = _columns(verdicts, split)
    said_yes = tuple(a + b for a, b in zip(tp, fp))
    answered = tuple(float(verdict.answer is not None) for verdict in verdicts)
    return [
        Score(f"{split}/f1", counts.f1, "share", size, (tp, fp, labels), _mean_f1),
        mean_score(f"{split}/accuracy", verdicts, value=counts.accuracy),
        Score(f"{split}/precision", counts.precision, "share", size, (tp, said_yes), np.divide),
        Score(f"{split}/recall", counts.recall, "share", size, (tp, labels), np.divide),
        Score(f"{split}/yes_ratio", counts.yes_ratio, "share", size, (said_yes, answered), np.divide),
    ]


def _columns(verdicts: Sequence[Verdict], split: str) -> tuple[tuple[float, ...], ...]:
    """Per verdict: a right yes of the split, a wrong yes of it, a yes among its labels."""
    mine = [verdict if verdict.category == split else None for verdict in verdicts]
    return (
        tuple(float(v is not None and v.parsed == "yes" and v.truth == "yes") for v in mine),
        tuple(float(v is not None and v.parsed == "yes" and v.truth == "no") for v in mine),
        tuple(float(v is not None and v.truth == "yes") for v in mine),
    )


def _mean_f1(*sums: np.ndarray) -> np.ndarray:
    """Mean over splits of 2 TP / (TP + FP + yes labels), which is the harmonic mean written out."""
    parts = [2 * tp / (tp + fp + labels) for tp, fp, labels in zip(sums[::3], sums[1::3], sums[2::3])]
    return np.mean(parts, axis=0)


def _lmms_scores(prefix: str, verdicts: Sequence[Verdict]) -> tuple[Score, ...]:
    counts = count_pope(verdicts)
    tp, fp, fn = counts.true_positives, counts.false_positives, counts.false_negatives
    precision = tp / (tp + fp) if tp + fp else 0.0
    recall = tp / (tp + fn) if tp + fn else 0.0
    f1 = 2 * (precision * recall) / (precision + recall) if precision + recall else 0.0
    labels = [verdict.truth == "yes" for verdict in verdicts]
    hits = tuple(float(v.parsed == v.truth == "yes") for v in verdicts)
    false_yes = tuple(float(v.parsed == "yes" and v.truth == "no") for v in verdicts)
    false_no = tuple(float(v.parsed == "no" and v.truth == "yes") for v in verdicts)
    size = len(verdicts)
    scores = (
        Score(
            f"{prefix}pope_f1_score",
            f1,
            "share",
            size,
            (hits, false_yes, false_no),
            lambda a, b, c: 2 * a / (2 * a + b + c),
        ),
        mean_score(f"{prefix}pope_accuracy", verdicts),
        Score(f"{prefix}pope_precision", precision, "share", size, (hits, false_yes), lambda a, b: a / (a + b)),
        Score(f"{prefix}pope_recall", recall, "share", size, (hits, false_no), lambda a, b: a / (a + b)),
        mean_score(f"{prefix}pope_yes_ratio", [_as_label(v, is_yes) for v, is_yes in zip(verdicts, labels)]),
    )
    if all(verdict.answer is None for verdict in verdicts):
        return tuple(Score(s.name, None, s.unit, s.num_units, s.columns, s.combine) for s in scores)
    return scores


def _as_label(verdict: Verdict, is_yes: bool) -> Verdict:
    return Verdict(verdict.key, verdict.truth, verdict.truth, verdict.truth, float(is_yes), verdict.category)


__all__ = ["PopeCounts", "count_pope", "parse_pope_answer", "score_pope", "score_pope_lmms"]
