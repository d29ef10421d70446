"""Score SEED-Bench: the answer is a letter, per question type, of images and of video frames."""

from collections.abc import Mapping, Sequence

from transformers_llava.evaluation.questions.question import Key, Question
from transformers_llava.evaluation.scoring.verdicts import Protocol, TaskResult, Verdict, mean_score, notes_of


SUBSETS = ("image", "video")


def score_seed_bench(questions: Sequence[Question], texts: Mapping[Key, str]) -> TaskResult:
    """
    Score SEED-Bench as LLaVA's `convert_seed_for_submission.py`, in percent: the text must equal the letter.

    `Total accuracy` is what LLaVA reports as SEED; `image accuracy` is SEED-Bench's image part.

    Args:
        questions (`Sequence[Question]`): `category` is the question type, `subset` is `image` or `video`.
        texts (`Mapping`): Key of a question to what the model said.
    """
    verdicts = []
    for question in questions:
        text = texts.get(question.key)
        is_right = text is not None and text == question.truth
        verdicts.append(Verdict(question.key, text, text or "", question.truth, float(is_right), question.category))
    types = {question.category: question.category_id for question in questions}
    groups = {
        "Total accuracy": verdicts,
        **{f"{subset} accuracy": _of_subset(questions, verdicts, subset) for subset in SUBSETS},
        **{
            name: [verdict for verdict in verdicts if verdict.category == name]
            for name in sorted(types, key=lambda name: types[name])
        },
    }
    return _result("llava-1.5", verdicts, groups, percent=True)


def score_seed_bench_lmms(questions: Sequence[Question], texts: Mapping[Key, str]) -> TaskResult:
    """Score SEED-Bench as lmms-eval's `seedbench`: the first character, in either case."""
    verdicts = []
    for question in questions:
        text = texts.get(question.key)
        parsed = "" if text is None else text.strip()[:1]
        is_right = text is not None and parsed.lower().strip() == question.truth.lower().strip()
        verdicts.append(Verdict(question.key, text, parsed, question.truth, float(is_right), question.category))
    groups = {
        "seed_all": verdicts,
        **{f"seed_{subset}": _of_subset(questions, verdicts, subset) for subset in SUBSETS},
    }
    return _result("lmms-eval", verdicts, groups, percent=False)


def _of_subset(questions: Sequence[Question], verdicts: Sequence[Verdict], subset: str) -> list[Verdict]:
    return [verdict for question, verdict in zip(questions, verdicts, strict=True) if question.subset == subset]


def _result(
    protocol: Protocol, verdicts: Sequence[Verdict], groups: Mapping[str, Sequence[Verdict]], *, percent: bool
) -> TaskResult:
    scores = []
    for name, members in groups.items():
        if members:
            right = sum(verdict.score for verdict in members)
            value = right / len(members) * 100 if percent else right / len(members)
            scores.append(mean_score(name, members, value=value, unit="percent" if percent else "share"))
    return TaskResult(protocol, tuple(verdicts), tuple(scores), notes_of(verdicts, scores))


__all__ = ["SUBSETS", "score_seed_bench", "score_seed_bench_lmms"]
