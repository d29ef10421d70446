"""Write what a judge is asked about LLaVA-Bench-in-the-Wild, read its verdicts, and sum them up."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transformers_llava.evaluation.questions.question import Key, Question
from transformers_llava.evaluation.questions.question_lines import QuestionsError, key_of, read_lines, text_of
from transformers_llava.evaluation.scoring.verdicts import Score


SYSTEM_PROMPT = "You are a helpful and precise assistant for checking the quality of the answer."
# `llava/eval/table/rule.json` has this text three times: for conv, detail and complex.
RULE = (
    "We would like to request your feedback on the performance of two AI assistants in response to the user question "
    "displayed above. The user asks the question on observing an image. For your reference, the visual content in the "
    "image is represented with a few sentences describing the image. \n"
    "Please rate the helpfulness, relevance, accuracy, level of details of their responses. Each assistant receives "
    "an overall score on a scale of 1 to 10, where a higher score indicates better overall performance.\n"
    "Please first output a single line containing only two values indicating the scores for Assistant 1 and 2, "
    "respectively. The two scores are separated by a space.\n"
    "In the subsequent line, please provide a comprehensive explanation of your evaluation, avoiding any potential "
    "bias and ensuring that the order in which the responses were presented does not affect your judgment."
)
ROLE = "Assistant"
CATEGORIES = ("conv", "detail", "complex")
# Of the scripts; the model is retired, which is why the numbers of 2023 cannot be had again.
JUDGE_MODEL = "gpt-4-0314"
JUDGE_TEMPERATURE = 0.2
JUDGE_MAX_TOKENS = 1024
NOT_READ = (-1, -1)  # what the original writes, and then averages, when it finds no two scores


@dataclass(frozen=True)
class Review:
    """
    One line of a review file.

    Args:
        question_id (`int` or `str`): Which question was judged.
        category (`str`): Such as `llava_bench_conv`; empty in the oldest files.
        scores (`tuple[float, float]`): Of the reference and of the model; `(-1, -1)` if the reply has none.
        content (`str`): The judge's whole reply.
    """

    question_id: Key
    category: str
    scores: tuple[float, float]
    content: str = ""

    @property
    def is_read(self) -> bool:
        """Whether the reply had two scores, both of them numbers."""
        return self.scores != NOT_READ and all(abs(score) != float("inf") and score == score for score in self.scores)


@dataclass(frozen=True)
class ReviewSummary:
    """
    One line of `summarize_gpt_review.py`.

    Args:
        name (`str`): Category, or `all`.
        relative (`float` or `None`): Score of the model in percent of the reference's; `None` if that has 0.
        reference (`float`): Mean score of the reference times 10.
        model (`float`): Mean score of the model times 10.
        num_reviews (`int`): Over which.
        num_not_read (`int`): Replies without two scores, which are not among them.
    """

    name: str
    relative: float | None
    reference: float
    model: float
    num_reviews: int
    num_not_read: int


def read_captions(path: str | Path) -> dict[str, str]:
    """Image names of `context.jsonl` to what is in the image, in words; several sentences are lines."""
    captions = {}
    for number, record in read_lines(path):
        place = f"'{path}', line {number},"
        caption = record.get("caption")
        is_list = isinstance(caption, list) and all(isinstance(sentence, str) for sentence in caption)
        captions[text_of(record, "image", place)] = (
            "\n".join(caption) if is_list and isinstance(caption, list) else text_of(record, "caption", place)
        )
    return captions


def judge_messages(question: Question, caption: str, reference: str, answer: str) -> list[dict[str, str]]:
    """
    The two messages to the judge about one answer, as `eval_gpt_review_bench.py` sends them.

    Args:
        question ([`Question`]): With the category conv, detail or complex.
        caption (`str`): What is in the image.
        reference (`str`): The answer of text-only GPT-4, which becomes Assistant 1.
        answer (`str`): The model's, which becomes Assistant 2.

    Raises:
        ValueError: The question's category has no rule.
    """
    if question.category not in CATEGORIES:
        raise ValueError(
            f"question {question.key!r} of LLaVA-Bench has the category {question.category!r}, for which there is no "
            f"instruction to the judge. It must be one of {', '.join(CATEGORIES)}."
        )
    content = (
        f"[Context]\n{caption}\n\n"
        f"[Question]\n{question.text}\n\n"
        f"[{ROLE} 1]\n{reference}\n\n[End of {ROLE} 1]\n\n"
        f"[{ROLE} 2]\n{answer}\n\n[End of {ROLE} 2]\n\n"
        f"[System]\n{RULE}\n\n"
    )
    return [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": content}]


def parse_judge_reply(reply: str) -> tuple[float, float]:
    """
    Read two scores from the first line: two numbers parted by one space or one comma, and nothing else.

    Returns:
        `tuple[float, float]`: `(-1, -1)` if there are none. A number is what `float` takes, `nan` and `inf` too.

    Example:

        >>> parse_judge_reply("8 7\\nBoth are good."), parse_judge_reply("8, 7")
        ((8.0, 7.0), (-1, -1))
    """
    parts = reply.split("\n")[0].replace(",", " ").split(" ")
    try:
        first, second = (float(part) for part in parts)
    except ValueError:
        return NOT_READ
    return first, second


def parse_judge_reply_lmms(reply: str) -> tuple[float, float]:
    """
    Read two scores as lmms-eval's `llava_in_the_wild`: the first two numbers of the first line, whatever parts them.

    Example:

        >>> parse_judge_reply_lmms("Scores: 8, 7.5\\nBoth are good."), parse_judge_reply_lmms("eight")
        ((8.0, 7.5), (-1, -1))
    """
    numbers = re.findall(r"-?\d+(?:\.\d+)?", reply.strip().split("\n")[0].replace(",", " ").replace(";", " "))
    return (float(numbers[0]), float(numbers[1])) if len(numbers) >= 2 else NOT_READ


def review_record(question: Question, reply: str, *, number: int, reference_id: Key, answer_id: Key) -> dict[str, Any]:
    """
    A line of the review file, as `eval_gpt_review_bench.py` writes it with `json.dumps`.

    Args:
        question ([`Question`]): That was judged.
        reply (`str`): The judge's.
        number (`int`): From 1, in the order of the questions.
        reference_id (`int` or `str`): Id of the reference answer.
        answer_id (`int` or `str`): Id of the model's answer.
    """
    return {
        "id": number,
        "question_id": question.id,
        "answer1_id": reference_id,
        "answer2_id": answer_id,
        "category": f"llava_bench_{question.category}",
        "content": reply,
        "tuple": list(parse_judge_reply(reply)),
    }


def read_reviews(path: str | Path) -> tuple[Review, ...]:
    """
    Read a review file; the scores stand under `tuple`, in the oldest files under `score`.

    Raises:
        `QuestionsError`: A line has no two numbers there.
    """
    reviews = []
    for number, record in read_lines(path):
        place = f"'{path}', line {number},"
        scores = record.get("tuple", record.get("score"))
        is_pair = isinstance(scores, list) and len(scores) == 2
        if not is_pair or not all(isinstance(score, int | float) for score in scores or ()):
            raise QuestionsError(f"{place} has {scores!r} where two scores of the judge are expected.")
        first, second = scores or NOT_READ
        content = record.get("content", "")
        reviews.append(
            Review(
                key_of(record, "question_id", place),
                str(record.get("category", "")),
                (first, second),
                content if isinstance(content, str) else "",
            )
        )
    return tuple(reviews)


def summarize_reviews(
    reviews: Iterable[Review], *, ignored: Sequence[Key] = (), with_not_read: bool = False
) -> tuple[ReviewSummary, ...]:
    """
    Sum reviews up as `summarize_gpt_review.py`: `all`, then the categories by name.

    Args:
        reviews (`Iterable[Review]`): Of one model.
        ignored (`Sequence`, *optional*): Ids of questions that are left out.
        with_not_read (`bool`, *optional*, defaults to `False`): Average the -1 of replies without scores, as the
            original does; else they are counted only.
    """
    groups: Mapping[str, list[Review]] = defaultdict(list)
    for review in reviews:
        if review.question_id not in ignored:
            groups["all"].append(review)
            if review.category:
                groups[review.category].append(review)
    return tuple(_summary(name, groups[name], with_not_read=with_not_read) for name in sorted(groups))


def relative_score(reviews: Sequence[Review]) -> Score:
    """LLaVA-Bench's number, 100 x the model's points / the reference's, over the replies that could be read."""
    scores = [review.scores for review in reviews if review.is_read]
    columns = (tuple(first for first, _ in scores), tuple(second for _, second in scores))
    total = sum(columns[0])
    value = 100 * sum(columns[1]) / total if total else None
    return Score("relative", value, "percent", len(scores), columns, lambda first, second: 100 * second / first)


def to_line(record: Mapping[str, Any]) -> str:
    """One line of a review file."""
    return json.dumps(record) + "\n"


def _summary(name: str, reviews: Sequence[Review], *, with_not_read: bool) -> ReviewSummary:
    counted = [review.scores for review in reviews if with_not_read or review.is_read]
    num_not_read = sum(not review.is_read for review in reviews)
    if not counted:
        return ReviewSummary(name, None, float("nan"), float("nan"), 0, num_not_read)
    first, second = (round(mean, 3) for mean in np.asarray(counted).mean(0).tolist())
    relative = round(second / first * 100, 1) if first else None
    return ReviewSummary(name, relative, round(first * 10, 1), round(second * 10, 1), len(counted), num_not_read)


__all__ = [
    "CATEGORIES",
    "JUDGE_MAX_TOKENS",
    "JUDGE_MODEL",
    "JUDGE_TEMPERATURE",
    "NOT_READ",
    "RULE",
    "SYSTEM_PROMPT",
    "Review",
    "ReviewSummary",
    "judge_messages",
    "parse_judge_reply",
    "parse_judge_reply_lmms",
    "read_captions",
    "read_reviews",
    "relative_score",
    "review_record",
    "summarize_reviews",
    "to_line",
]
