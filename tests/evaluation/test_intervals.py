"""Bootstrap intervals: seeded, of any score that sums can give, close to what the formula of a mean says."""

import math

import numpy as np
import pytest

from transformers_llava.evaluation.questions.question import Question
from transformers_llava.evaluation.scoring.mme import score_mme
from transformers_llava.evaluation.scoring.pope import score_pope, score_pope_lmms
from transformers_llava.evaluation.scoring.verdicts import Verdict, mean_score


def verdicts(num_right: int, num_questions: int) -> list[Verdict]:
    return [Verdict(i, "yes", "yes", "yes", float(i < num_right)) for i in range(num_questions)]


def test_the_interval_of_a_share_is_that_of_its_standard_error() -> None:
    low, high = mean_score("accuracy", verdicts(300, 400)).interval(num_resamples=4000) or (0, 0)
    half = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert (low, high) == pytest.approx((0.75 - half, 0.75 + half), abs=0.005)


def test_equal_seeds_give_equal_intervals_and_percent_is_the_same_times_100() -> None:
    share = mean_score("accuracy", verdicts(3001, 4001))
    assert share.interval(seed=3) == share.interval(seed=3) != share.interval(seed=4)
    percent = mean_score("accuracy", verdicts(3001, 4001), unit="percent")
    assert percent.interval() == pytest.approx([100 * bound for bound in share.interval() or ()])


def test_a_score_without_a_value_has_no_interval() -> None:
    unanswered = [Verdict(1, None, "", "yes", 0.0)]
    assert mean_score("accuracy", unanswered).value is None
    assert mean_score("accuracy", unanswered).interval() is None


def test_certain_answers_leave_nothing_to_draw() -> None:
    assert mean_score("accuracy", verdicts(40, 40)).interval() == (1.0, 1.0)


def test_every_score_is_what_its_sums_say() -> None:
    """What is resampled is the score that is printed: with every question drawn once, they are equal."""
    questions = [
        Question(i, f"{category}/{i // 2}.jpg", "", answers=(("yes", "no")[i % 2],), category=category)
        for category in ("random", "popular", "adversarial")
        for i in range(8)
    ]
    questions = [Question(i, q.id, q.text, answers=q.answers, category=q.category) for i, q in enumerate(questions)]
    texts = {i: ("yes", "no", "yes", "yes", "no", "no", "No.")[i % 7] for i in range(23)}  # the last is unanswered
    mme = [
        Question(
            q.key, q.id, "", answers=q.answers, category={"random": "count", "popular": "OCR"}.get(q.category, "x")
        )
        for q in questions
    ]
    results = [score_pope(questions, texts), score_pope_lmms(questions, texts), score_mme(mme, texts)]
    scores = [score for result in results for score in result.scores]
    assert len(scores) > 30
    for score in scores:
        if score.value is not None and score.num_units:
            sums = [sum(column) for column in score.columns]
            assert float(score.combine(*map(float_array, sums))) == pytest.approx(score.value), score.name


def float_array(value: float) -> np.float64:
    return np.float64(value)
