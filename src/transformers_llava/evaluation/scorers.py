"""Find a scorer by the name that a task file gives."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from transformers_llava.evaluation.questions.question import Key, Question
from transformers_llava.evaluation.scoring.answer_normalization import normalize_vqa_answer
from transformers_llava.evaluation.scoring.mmbench import score_mmbench_lmms
from transformers_llava.evaluation.scoring.mme import score_mme, score_mme_lmms
from transformers_llava.evaluation.scoring.pope import score_pope, score_pope_lmms
from transformers_llava.evaluation.scoring.scienceqa import score_scienceqa, score_scienceqa_lmms
from transformers_llava.evaluation.scoring.seed_bench import score_seed_bench, score_seed_bench_lmms
from transformers_llava.evaluation.scoring.soft_accuracy import score_soft_accuracy, score_textvqa
from transformers_llava.evaluation.scoring.verdicts import TaskResult
from transformers_llava.evaluation.scoring.whole_answer import score_exact_match, score_gqa, score_gqa_lmms


Scorer = Callable[[Sequence[Question], Mapping[Key, str]], TaskResult]

SCORERS: dict[str, Scorer] = {
    "gqa": score_gqa,
    "gqa_lmms": score_gqa_lmms,
    "mmbench_lmms": score_mmbench_lmms,
    "mme": score_mme,
    "mme_lmms": score_mme_lmms,
    "pope": score_pope,
    "pope_lmms": score_pope_lmms,
    "scienceqa": score_scienceqa,
    "scienceqa_lmms": score_scienceqa_lmms,
    "seed_bench": score_seed_bench,
    "seed_bench_lmms": score_seed_bench_lmms,
    "textvqa": score_textvqa,
    "textvqa_lmms": partial(score_soft_accuracy, task="textvqa"),
    "vizwiz_lmms": partial(score_soft_accuracy, task="vizwiz"),
    "vqav2_lmms": partial(score_soft_accuracy, task="vqav2"),
}
# For a user's own task; any of the above will do too, if its questions have what that scorer reads.
OWN_SCORERS: dict[str, Scorer] = {
    "exact_match": score_exact_match,
    "vqa_exact_match": partial(score_exact_match, normalize=normalize_vqa_answer),
}


def scorer_of(name: str) -> Scorer:
    """
    The scorer of a name.

    Raises:
        ValueError: There is none; offers the nearest.
    """
    known = SCORERS | OWN_SCORERS
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(known)}."
        raise ValueError(f"there is no scorer {name!r}, so these answers cannot be scored. {hint}")
    return known[name]


__all__ = ["OWN_SCORERS", "SCORERS", "Scorer", "scorer_of"]
