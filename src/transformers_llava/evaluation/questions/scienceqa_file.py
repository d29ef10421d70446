"""Make ScienceQA's question file from its problems, as the original's `convert_sqa_to_llava.py` with `CQM-A`."""

import json
from pathlib import Path

from transformers_llava.evaluation.questions.multiple_choice import LETTERS
from transformers_llava.evaluation.questions.question_lines import QuestionsError, read_document


def scienceqa_question_file(folder: str | Path, *, split: str = "test") -> str:
    """
    Write context, question and options of each problem as one human turn.

    LLaVA's file in eval.zip may letter the options line by line instead (it could not be seen), which asks something
    else: the digest of the questions in a result tells the two apart.

    Args:
        folder (`str` or `Path`): With `problems.json` and `pid_splits.json`.
        split (`str`, *optional*, defaults to `"test"`): Of ScienceQA.

    Returns:
        `str`: Content of `llava_<split>_CQM-A.json`.

    Raises:
        `QuestionsError`: The split does not exist, or a problem of it lacks a field.
    """
    splits, problems = Path(folder) / "pid_splits.json", read_document(Path(folder) / "problems.json")
    ids = read_document(splits).get(split)
    if not isinstance(ids, list):
        raise QuestionsError(f"'{splits}' has no split {split!r}, so there is nothing to ask.")
    records = []
    for key in ids:
        try:
            problem = problems[key]
            options = " ".join(f"({letter}) {option}" for letter, option in zip(LETTERS, problem["choices"]))
            context = problem["hint"].strip() or "N/A"
            text = f"Context: {context}\nQuestion: {problem['question']}\nOptions: {options}\n"
            answer = f"The answer is {LETTERS[problem['answer']]}."
            image = problem["image"]
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise QuestionsError(
                f"problem {key!r} of '{folder}' cannot be asked ({type(error).__name__}: {error}). Use problems.json "
                "as published."
            ) from error
        text = text.replace("  ", " ").strip()
        if text.endswith("BECAUSE:"):
            text = text.replace("BECAUSE:", "").strip()
        turns = [
            {"from": "human", "value": text if image is None else f"{text}\n<image>"},
            {"from": "gpt", "value": answer},
        ]
        records.append({"id": key, **({} if image is None else {"image": f"{key}/{image}"}), "conversations": turns})
    return json.dumps(records, indent=2)


__all__ = ["scienceqa_question_file"]
