"""Score MMBench and MMBench-CN without a judge, by lmms-eval's static rule; LLaVA leaves them to a server."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from transformers_llava.evaluation.questions.question import Key, Question
from transformers_llava.evaluation.scoring.option_letters import extract_option, infer_option
from transformers_llava.evaluation.scoring.verdicts import TaskResult, Verdict, mean_score, notes_of


ROTATION = 1_000_000  # question n asked with rotated options has the index n + ROTATION, + 2 ROTATION, ...
OPTIONS = ("A", "B", "C", "D")


def score_mmbench_lmms(questions: Sequence[Question], texts: Mapping[Key, str]) -> TaskResult:
    """
    Score as `mmbench_en_dev_static`: a question is right if every rotation of it is.

    Args:
        questions (`Sequence[Question]`): `options` A to D (lmms-eval writes "nan" into empty cells, and matches it),
            `answers` is the right letter, `category` and `subset` the two levels of categories.
        texts (`Mapping`): Key of a question to what the model said.

    Returns:
        [`TaskResult`]: Verdicts of the questions themselves, without their rotations.
    """
    by_root: dict[int, list[Question]] = defaultdict(list)
    for question in sorted(questions, key=_index):
        by_root[_index(question) % ROTATION].append(question)
    verdicts, subsets = [], {}
    for question in questions:
        if _index(question) >= ROTATION:
            continue
        group = by_root[_index(question)]
        text = texts.get(question.key)
        points = float(is_group_right(group, texts))
        parsed = "" if text is None else _letter(question, text)
        verdicts.append(Verdict(question.key, text, parsed, question.truth, points, question.category))
        subsets[question.key] = question.subset
    scores = [mean_score("overall", verdicts)]
    for category in sorted({verdict.category for verdict in verdicts}):
        members = [verdict for verdict in verdicts if verdict.category == category]
        scores.append(mean_score(f"category/{category}", members))
    for subset in sorted(set(subsets.values())):
        members = [verdict for verdict in verdicts if subsets[verdict.key] == subset]
        scores.append(mean_score(f"l2_category/{subset}", members))
    return TaskResult("lmms-eval", tuple(verdicts), tuple(scores), notes_of(verdicts, scores))


def is_group_right(group: Sequence[Question], texts: Mapping[Key, str]) -> bool:
    """Whether a question and all its rotations are answered rightly; one without an answer is not."""
    return all(
        question.key in texts and _letter(question, texts[question.key]) == question.truth for question in group
    )


def _letter(question: Question, text: str) -> str:
    options = dict(zip(OPTIONS, question.options))
    return infer_option(text, options) or extract_option(text, list(options))


def _index(question: Question) -> int:
    if not isinstance(question.id, int):
        raise ValueError(
            f"MMBench question {question.id!r} has no number for an index, so its rotations cannot be found. Use the "
            "TSV file as published."
        )
    return question.id


__all__ = ["OPTIONS", "ROTATION", "is_group_right", "score_mmbench_lmms"]
