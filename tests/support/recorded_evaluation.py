"""Benchmarks and results recorded from the original evaluation scripts and from lmms-eval, read for the tests."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers_llava.evaluation.questions.annotations import (
    annotate_mme,
    annotate_pope,
    annotate_seed_bench,
    annotate_textvqa,
    wording_of,
)
from transformers_llava.evaluation.questions.lmms_documents import (
    mmbench_documents,
    mme_documents,
    pope_documents,
    questions_of_rows,
    scienceqa_documents,
    seed_bench_documents,
    textvqa_documents,
)
from transformers_llava.evaluation.questions.multiple_choice import annotate_scienceqa, read_mmbench, read_scienceqa
from transformers_llava.evaluation.questions.question import Key, Question
from transformers_llava.evaluation.questions.question_lines import read_question_file
from transformers_llava.evaluation.scoring.pairing import pair_answers, read_answers


FILES = {
    "vqav2": "llava_vqav2_mscoco_test-dev2015.jsonl",
    "gqa": "llava_gqa_testdev_balanced.jsonl",
    "vizwiz": "llava_test.jsonl",
    "scienceqa": "llava_test_CQM-A.json",
    "textvqa": "llava_textvqa_val_v051_ocr.jsonl",
    "pope": "llava_pope_test.jsonl",
    "mme": "llava_mme.jsonl",
    "mmbench": "mmbench_dev_20230712.tsv",
    "mmbench_cn": "mmbench_dev_cn_20231003.tsv",
    "seed_bench": "llava-seed-bench.jsonl",
    "llava_bench": "questions.jsonl",
    "mmvet": "llava-mm-vet.jsonl",
}


def recorded(golden: Path, task: str, name: str) -> Any:
    return json.loads((golden / "evaluation" / task / name).read_text(encoding="utf-8"))


def rows_of(golden: Path, name: str) -> list[list[Any]]:
    rows = recorded(golden, "normalisation", name)["rows"]
    assert rows
    return rows


def benchmark(golden: Path, task: str) -> Path:
    return golden / "evaluation" / task / "benchmark"


def asked(golden: Path, task: str) -> tuple[Question, ...]:
    """The questions of the original's file, without annotations."""
    path = benchmark(golden, task) / FILES[task]
    if task == "scienceqa":
        return read_scienceqa(path)
    return read_mmbench(path) if task.startswith("mmbench") else read_question_file(path)


def annotated(golden: Path, task: str) -> tuple[Question, ...]:
    """The questions as the scorers of protocol llava-1.5 want them."""
    questions, folder = asked(golden, task), benchmark(golden, task)
    if task == "textvqa":
        return annotate_textvqa(questions, folder / "TextVQA_0.5.1_val.json")
    if task == "pope":
        return annotate_pope(questions, folder / "coco")
    if task == "mme":
        return annotate_mme(questions, folder / "MME_Benchmark_release_version")
    if task == "seed_bench":
        return annotate_seed_bench(questions, folder / "SEED-Bench.json")
    return annotate_scienceqa(questions, folder) if task == "scienceqa" else questions


def documents(golden: Path, task: str) -> tuple[Question, ...]:
    """The questions as lmms-eval asks and scores them."""
    folder = benchmark(golden, task)
    if task in ("pope", "mme"):
        return {"pope": pope_documents, "mme": mme_documents}[task](annotated(golden, task))
    if task == "textvqa":
        rows: dict[object, Question] = {}
        for row in textvqa_documents(folder / "TextVQA_0.5.1_val.json"):
            rows.setdefault((row.image, row.text.lower()), row)  # recorded without the doubled entry
        return tuple(rows.values())
    if task == "seed_bench":
        return seed_bench_documents(folder / "SEED-Bench.json")
    if task == "scienceqa":
        return scienceqa_documents(folder)
    if task.startswith("mmbench"):
        return mmbench_documents(folder / FILES[task])
    return questions_of_rows(task, recorded(golden, task, "lmms_eval.json")["docs"])


def answers(golden: Path, task: str, name: str, questions: tuple[Question, ...]) -> Mapping[Key, str]:
    """The texts of a recorded answers file by question."""
    lines = read_answers(answers_path(golden, task, name)).answers
    return pair_answers(questions, lines, wording=wording_of(task)).texts


def answers_path(golden: Path, task: str, name: str) -> Path:
    return golden / "evaluation" / task / "answers" / f"{name}.jsonl"


def sets_of(golden: Path, task: str) -> list[str]:
    names = sorted(path.stem for path in (golden / "evaluation" / task / "answers").glob("*.jsonl"))
    assert names
    return names
