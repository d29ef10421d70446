"""Write what a grader is asked about MM-Vet, read its grades, and sum them up by capability, as lmms-eval does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers_llava.evaluation.questions.question import Key
from transformers_llava.evaluation.scoring.verdicts import Score


# Text and examples of MM-Vet's authors (github.com/yuweihao/MM-Vet, Apache-2.0), as lmms-eval at 75571cf has them.
GRADING_PROMPT = (
    "Compare the ground truth and prediction from AI models, to give a correctness score for the prediction. "
    "<AND> in the ground truth means it is totally right only when all elements in the ground truth are "
    "present in the prediction, and <OR> means it is totally right when any one element in the ground truth "
    "is present in the prediction. The correctness score is 0.0 (totally wrong), 0.1, 0.2, 0.3, 0.4, 0.5, "
    "0.6, 0.7, 0.8, 0.9, or 1.0 (totally right). Just complete the last space of the correctness score.\n"
    "gpt_query_prompt | Ground truth | Prediction | Correctness\n"
    "--- | --- | --- | ---\n"
    "What is x in the equation? | -1 <AND> -5 | x = 3 | 0.0\n"
    "What is x in the equation? | -1 <AND> -5 | x = -1 | 0.5\n"
    "What is x in the equation? | -1 <AND> -5 | x = -5 | 0.5\n"
    "What is x in the equation? | -1 <AND> -5 | x = -5 or 5 | 0.5\n"
    "What is x in the equation? | -1 <AND> -5 | x = -1 or x = -5 | 1.0\n"
    "Can you explain this meme? | This meme is poking fun at the fact that the names of the countries "
    "Iceland and Greenland are misleading. Despite its name, Iceland is known for its beautiful green "
    "landscapes, while Greenland is mostly covered in ice and snow. The meme is saying that the user has "
    "trust issues because the names of these countries do not accurately represent their landscapes. | The "
    "meme talks about Iceland and Greenland. It's pointing out that despite their names, Iceland is not very "
    "icy and Greenland isn't very green. | 0.4\n"
    "Can you explain this meme? | This meme is poking fun at the fact that the names of the countries "
    "Iceland and Greenland are misleading. Despite its name, Iceland is known for its beautiful green "
    "landscapes, while Greenland is mostly covered in ice and snow. The meme is saying that the user has "
    "trust issues because the names of these countries do not accurately represent their landscapes. | The "
    "meme is using humor to point out the misleading nature of Iceland's and Greenland's names. Iceland, "
    "despite its name, has lush green landscapes while Greenland is mostly covered in ice and snow. The text "
    "'This is why I have trust issues' is a playful way to suggest that these contradictions can lead to "
    "distrust or confusion. The humor in this meme is derived from the unexpected contrast between the names "
    "of the countries and their actual physical characteristics. | 1.0\n"
)
CAPABILITIES = ("rec", "ocr", "know", "gen", "spat", "math")
GRADER_MODEL = "gpt-4o-2024-11-20"  # of lmms-eval; the authors' notebook asks a GPT-4 of 2023
GRADER_MAX_TOKENS = 128
_REPLACED = (("<AND>", " <AND> "), ("<OR>", " <OR> "))


@dataclass(frozen=True)
class Grade:
    """
    One graded answer.

    Args:
        key (`int` or `str`): Of the question.
        score (`float` or `None`): 0 to 1; `None` if the grader gave none, which counts as 0 and is reported.
        capabilities (`str`): Which the question needs, with commas: `rec,ocr`.
    """

    key: Key
    score: float | None
    capabilities: str


def grading_prompt(question: str, truth: str, answer: str) -> str:
    """
    The one message to the grader about an answer.

    Args:
        question (`str`): As asked, without an instruction before it.
        truth (`str`): With `<AND>` and `<OR>` between what is needed.
        answer (`str`): The model's.
    """
    for mark, spaced in _REPLACED:
        truth = truth.replace(mark, spaced)
    return f"{GRADING_PROMPT}\n{question} | {truth} | {answer} |"


def parse_grade(reply: str) -> float | None:
    """
    Read a grade: the reply up to its first space, a number from 0 to 1.

    Returns:
        `float`: `None` if there is none; lmms-eval then asks again at a higher temperature, and gives 0 in the end.

    Example:

        >>> parse_grade("0.5 because"), parse_grade("half"), parse_grade("7")
        (0.5, None, None)
    """
    try:
        grade = float(reply.strip().split(" ")[0].strip())
    except ValueError:
        return None
    return grade if 0.0 <= grade <= 1.0 else None


def summarize_grades(grades: Sequence[Grade]) -> tuple[Score, ...]:
    """
    Mean grades in percent: over all answers, then by capability where a question needs it.

    Raises:
        ValueError: There is no grade.
    """
    if not grades:
        raise ValueError("no answer to MM-Vet was graded, so there is no score. Grade at least one.")
    groups: dict[str, list[float]] = {"overall": [grade.score or 0.0 for grade in grades]}
    for capability in CAPABILITIES:
        needed = [grade.score or 0.0 for grade in grades if capability in grade.capabilities]
        if needed:
            groups[f"capability/{capability}"] = needed
    return tuple(_mean(name, scores) for name, scores in groups.items())


def grade_notes(grades: Sequence[Grade], texts: Mapping[Key, str]) -> tuple[str, ...]:
    """Say how many answers the grader gave no grade, and how many were not graded."""
    not_read = sum(grade.score is None for grade in grades)
    not_graded = len(texts.keys() - {grade.key for grade in grades})
    notes = [f"{not_read} of {len(grades)} replies of the grader have no grade and count as 0."] if not_read else []
    return (*notes, *([f"{not_graded} answers were not graded."] if not_graded else []))


def _mean(name: str, scores: Sequence[float]) -> Score:
    value = sum(scores) / len(scores) * 100
    columns = (tuple(scores), (1.0,) * len(scores))
    return Score(name, value, "percent", len(scores), columns, lambda total, count: 100 * total / count)


__all__ = [
    "CAPABILITIES",
    "GRADER_MAX_TOKENS",
    "GRADER_MODEL",
    "GRADING_PROMPT",
    "Grade",
    "grade_notes",
    "grading_prompt",
    "parse_grade",
    "summarize_grades",
]
