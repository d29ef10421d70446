"""Score short answers against ten people's answers: TextVQA here, VQAv2 and VizWiz by lmms-eval's rule."""

import statistics
from collections.abc import Callable, Mapping, Sequence

from transformers_llava.evaluation.questions.question import Key, Question
from transformers_llava.evaluation.scoring.answer_normalization import (
    normalize_vqa_answer,
    normalize_vqa_answer_without_word_split,
)
from transformers_llava.evaluation.scoring.verdicts import TaskResult, Verdict, mean_score, notes_of


NUM_PEOPLE = 10  # each of whom answered each question of TextVQA


def textvqa_score(prediction: str, people: Sequence[str]) -> float:
    """
    LLaVA's `TextVQAAccuracyEvaluator` for one question: an answer that three others gave is fully right.

    The score is the mean over the ten ways to leave one person out of `min(1, matches / 3)`.

    Args:
        prediction (`str`): What the model said.
        people (`Sequence[str]`): Ten answers.

    Returns:
        `float`: 0 to 1; 0 for an answer that nobody gave.

    Raises:
        ValueError: There are not ten answers.

    Example:

        >>> textvqa_score("Red.", ["red"] * 2 + ["blue"] * 8)
        0.6
    """
    if len(people) != NUM_PEOPLE:
        raise ValueError(
            f"a question of TextVQA has {len(people)} answers where ten are needed, so the share of people who agree "
            "cannot be computed. Use the annotation file as published."
        )
    parts = _leave_one_out(normalize_vqa_answer(prediction), [normalize_vqa_answer(answer) for answer in people])
    return sum(parts) / len(parts)


def score_textvqa(questions: Sequence[Question], texts: Mapping[Key, str]) -> TaskResult:
    """
    Score TextVQA as LLaVA's `eval_textvqa.py`, in percent.

    Args:
        questions (`Sequence[Question]`): With ten answers each.
        texts (`Mapping`): Key of a question to what the model said.
    """
    verdicts = _verdicts(questions, texts, normalize_vqa_answer, textvqa_score)
    scores = (mean_score("accuracy", verdicts, unit="percent"),)
    return TaskResult("llava-1.5", verdicts, scores, notes_of(verdicts, scores))


def soft_accuracy(prediction: str, people: Sequence[str], *, normalize: Callable[[str], str]) -> float:
    """
    lmms-eval's VQA accuracy of one question, over any number of people.

    It adds up exactly before it divides (`statistics.mean`), where LLaVA's adds floats.
    """
    parts = _leave_one_out(normalize(prediction), [normalize(answer) for answer in people])
    return float(statistics.mean(parts)) if parts else 0.0


def score_soft_accuracy(questions: Sequence[Question], texts: Mapping[Key, str], *, task: str) -> TaskResult:
    """
    Score TextVQA, VQAv2 or VizWiz as lmms-eval's `textvqa_val`, `vqav2_val` and `vizwiz_vqa_val`.

    Args:
        questions (`Sequence[Question]`): With people's answers.
        texts (`Mapping`): Key of a question to what the model said.
        task (`str`): `textvqa`, `vqav2` or `vizwiz`; answers of VQAv2 are normalized without the split into words.
    """
    normalize = normalize_vqa_answer_without_word_split if task == "vqav2" else normalize_vqa_answer

    def score(prediction: str, people: Sequence[str]) -> float:
        return soft_accuracy(prediction, people, normalize=normalize)

    verdicts = _verdicts(questions, texts, normalize, score)
    scores = (mean_score("exact_match", verdicts),)
    return TaskResult("lmms-eval", verdicts, scores, notes_of(verdicts, scores))


def _leave_one_out(prediction: str, people: list[str]) -> list[float]:
    matches = people.count(prediction)
    return [min(1, float(matches - (answer == prediction)) / 3) for answer in people]


def _verdicts(
    questions: Sequence[Question],
    texts: Mapping[Key, str],
    normalize: Callable[[str], str],
    score: Callable[[str, Sequence[str]], float],
) -> tuple[Verdict, ...]:
    verdicts = []
    for question in questions:
        text = texts.get(question.key)
        truth = statistics.mode(question.answers) if question.answers else ""
        points = 0.0 if text is None else score(text, question.answers)
        parsed = "" if text is None else normalize(text)
        verdicts.append(Verdict(question.key, text, parsed, truth, points, question.category))
    return tuple(verdicts)


__all__ = ["NUM_PEOPLE", "score_soft_accuracy", "score_textvqa", "soft_accuracy", "textvqa_score"]
