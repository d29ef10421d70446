"""Write the files that servers and judges take, byte for byte as the original's `convert_*` scripts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers_llava.evaluation.questions.multiple_choice import read_table
from transformers_llava.evaluation.questions.question import Answer, Key, Question
from transformers_llava.evaluation.questions.question_lines import QuestionsError
from transformers_llava.evaluation.scoring.answer_normalization import normalize_vqa_answer
from transformers_llava.evaluation.scoring.scienceqa import (
    NOT_PARSED,
    OPTION_LETTERS,
    option_index,
    parse_scienceqa_answer,
)
from transformers_llava.evaluation.scoring.whole_answer import gqa_prediction


MMBENCH_DROPPED_COLUMNS = ("hint", "category", "source", "image", "comment", "l2-category")
MMBENCH_PREDICTION_PLACE = 6  # after index, question and the four options
UNKNOWN_PROMPT = "Unknown"  # of a problem without an answer


@dataclass(frozen=True)
class Submission:
    """
    What is uploaded.

    Args:
        content (`str`): Of the file.
        notes (`tuple[str, ...]`): What the uploader must know, such as questions without an answer.
    """

    content: str
    notes: tuple[str, ...] = ()


def vqav2_submission(questions: Sequence[Question], texts: Mapping[Key, str]) -> Submission:
    """
    EvalAI's file for VQAv2: every question of test2015; an empty answer where there is none.

    Args:
        questions (`Sequence[Question]`): Of `llava_vqav2_mscoco_test2015.jsonl`, of which test-dev asks a part.
        texts (`Mapping`): Key of a question to what the model said.
    """
    rows = [
        {"question_id": q.id, "answer": normalize_vqa_answer(texts[q.key]) if q.key in texts else ""}
        for q in questions
    ]
    return Submission(json.dumps(rows), _unanswered(questions, texts))


def vizwiz_submission(questions: Sequence[Question], texts: Mapping[Key, str]) -> Submission:
    """EvalAI's file for VizWiz; an empty answer where there is none, at which the original stops."""
    rows = [
        {"image": q.image, "answer": normalize_vqa_answer(texts[q.key]) if q.key in texts else ""} for q in questions
    ]
    return Submission(json.dumps(rows), _unanswered(questions, texts))


def gqa_submission(questions: Sequence[Question], texts: Mapping[Key, str]) -> Submission:
    """The predictions that GQA's `eval.py` reads: the answered questions, in their order."""
    rows = [{"questionId": q.id, "prediction": gqa_prediction(texts[q.key])} for q in questions if q.key in texts]
    return Submission(json.dumps(rows), _unanswered(questions, texts))


def gqa_submission_of_lines(answers: Sequence[Answer]) -> Submission:
    """The same of the lines of an answers file: each of them, in their order, as `convert_gqa_for_eval.py` does."""
    rows = [{"questionId": answer.question_id, "prediction": gqa_prediction(answer.text)} for answer in answers]
    return Submission(json.dumps(rows))


def seed_bench_submission(document: Mapping[str, Any], texts: Mapping[Key, str]) -> Submission:
    """
    The lines for SEED-Bench's leaderboard, with ids as `SEED-Bench.json` writes them.

    Args:
        document (`Mapping`): `SEED-Bench.json`.
        texts (`Mapping`): Id of a question to what the model said; an id that is a number may stand as one. A question
            without an answer is left out, at which the original stops.
    """
    lines, missing = [], []
    for question in document["questions"]:
        key = question["question_id"]
        found = key if key in texts else _number(key)
        if found in texts:
            lines.append(json.dumps({"question_id": key, "prediction": texts[found]}) + "\n")
        else:
            missing.append(key)
    return Submission("".join(lines), _missing(missing, len(document["questions"]), "left out"))


def mmvet_submission(questions: Sequence[Question], texts: Mapping[Key, str]) -> Submission:
    """The results file that MM-Vet's grader reads: `v1_<id>` to the answer."""
    rows = {f"v1_{question.id}": texts[question.key] for question in questions if question.key in texts}
    return Submission(json.dumps(rows, indent=2), _unanswered(questions, texts))


def mmvet_submission_of_lines(answers: Sequence[Answer]) -> Submission:
    """The same of the lines of an answers file: in the order in which ids appear, with the last answer to each."""
    return Submission(json.dumps({f"v1_{answer.question_id}": answer.text for answer in answers}, indent=2))


def scienceqa_analysis(
    questions: Sequence[Question], texts: Mapping[Key, str], prompts: Mapping[Key, str]
) -> tuple[Submission, Submission]:
    """
    The two files that `eval_science_qa.py` writes: right and wrong answers, and the result.

    Args:
        questions (`Sequence[Question]`): Annotated, in the order of the split.
        texts (`Mapping`): Key of a question to what the model said.
        prompts (`Mapping`): Key of a question to the prompt of the answers file, in which `<image>` marks an image.
    """
    analysis: dict[str, list[dict[str, Any]]] = {"correct": [], "incorrect": []}
    indices, outputs = {}, {}
    for question in questions:
        text = texts.get(question.key, NOT_PARSED)
        prompt = prompts[question.key] if question.key in texts else UNKNOWN_PROMPT
        parsed = parse_scienceqa_answer(text)
        index = option_index(parsed, len(question.options))
        indices[question.id], outputs[question.id] = index, text
        is_right = index == OPTION_LETTERS.index(question.truth)
        analysis["correct" if is_right else "incorrect"].append(
            {
                "question_id": question.id,
                "parsed_ans": parsed,
                "ground_truth": question.truth,
                "question": prompt,
                "pred": text,
                "is_multimodal": "<image>" in prompt,
            }
        )
    correct = len(analysis["correct"])
    result = {
        "acc": correct / len(questions) * 100 if questions else None,
        "correct": correct,
        "count": len(questions),
        "results": indices,
        "outputs": outputs,
    }
    notes = _unanswered(questions, texts)
    return Submission(json.dumps(analysis, indent=2), notes), Submission(json.dumps(result, indent=2), notes)


def mme_submission(questions: Sequence[Question], texts: Mapping[Key, str]) -> dict[str, Submission]:
    """
    One file per category for MME's `calculation.py`: image file, question, truth, answer, parted by tabs.

    Line breaks and tabs in an answer become spaces, for the tool stops at them; it reads the first four characters.
    """
    lines: dict[str, list[str]] = {}
    for question in questions:
        if question.key in texts:
            answer = " ".join(texts[question.key].replace("\t", "\n").split("\n"))
            image = str(question.id).split("/")[-1].split(".")[0] + ".txt"
            row = (image, question.hint or question.text, question.truth, answer)
            lines.setdefault(question.category, []).append("\t".join(row) + "\n")
    notes = _unanswered(questions, texts)
    return {f"{category}.txt": Submission("".join(rows), notes) for category, rows in lines.items()}


def write_mmbench_submission(
    table: str | Path, questions: Sequence[Question], texts: Mapping[Key, str], path: str | Path
) -> tuple[str, ...]:
    """
    Write the workbook for OpenCompass: the table without hint and image, with a column `prediction`.

    Control characters that a workbook cannot hold are left out of answers, at which the original stops. As in the
    original, an answer that begins with "=" becomes a formula.

    Args:
        table (`str` or `Path`): MMBench's TSV file.
        questions (`Sequence[Question]`): Of it.
        texts (`Mapping`): Key of a question to what the model said.
        path (`str` or `Path`): Of the workbook.

    Returns:
        `tuple[str, ...]`: What the uploader must know.

    Raises:
        `ModuleNotFoundError`: pandas or openpyxl is not installed; they come with the extra `evaluate`.
        `QuestionsError`: The table lacks a column.
    """
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    frame = read_table(table, text_only=False)
    lacking = [name for name in ("index", *MMBENCH_DROPPED_COLUMNS) if name not in frame.columns]
    if lacking:
        raise QuestionsError(f"'{table}' has no column {', '.join(lacking)}, so it is no table of MMBench.")
    frame = frame.drop(columns=list(MMBENCH_DROPPED_COLUMNS))
    cleaned = {key: ILLEGAL_CHARACTERS_RE.sub("", text) for key, text in texts.items()}
    by_id = {question.id: cleaned[question.key] for question in questions if question.key in cleaned}
    predictions = [by_id.get(_number(str(index))) for index in frame["index"]]
    frame.insert(MMBENCH_PREDICTION_PLACE, "prediction", predictions)
    frame["prediction"] = frame["prediction"].astype(object)
    frame.to_excel(path, index=False, engine="openpyxl")
    altered = sum(cleaned[key] != text for key, text in texts.items())
    formulas = sum(text.startswith("=") for text in by_id.values())
    notes = list(_unanswered(questions, texts))
    if altered:
        notes.append(f"{altered} answers had control characters, which a workbook cannot hold; they are left out.")
    if formulas:
        notes.append(f"{formulas} answers begin with '=' and stand in the workbook as formulas, as the original's do.")
    return tuple(notes)


def _number(key: Key) -> Key:
    try:
        return int(key)
    except ValueError:
        return key


def _unanswered(questions: Sequence[Question], texts: Mapping[Key, str]) -> tuple[str, ...]:
    return _missing([question.key for question in questions if question.key not in texts], len(questions), "empty")


def _missing(keys: Sequence[Key], total: int, fate: str) -> tuple[str, ...]:
    if not keys:
        return ()
    named = ", ".join(map(repr, keys[:3])) + (", ..." if len(keys) > 3 else "")
    return (f"{len(keys)} of {total} questions have no answer and are {fate} in the file: {named}.",)


__all__ = [
    "Submission",
    "gqa_submission",
    "gqa_submission_of_lines",
    "mme_submission",
    "mmvet_submission",
    "mmvet_submission_of_lines",
    "scienceqa_analysis",
    "seed_bench_submission",
    "vizwiz_submission",
    "vqav2_submission",
    "write_mmbench_submission",
]
