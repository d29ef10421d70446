"""Keep what an evaluation found: `evaluation.json`, with every score, its interval, and what it was made from."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from transformers_llava.artifacts.evaluation_files.predictions import DecodingValue


FILE_NAME = "evaluation.json"
SCHEMA_VERSION = 1
PREDICTIONS_FOLDER = "predictions"


@dataclass(frozen=True)
class ScoreRecord:
    """
    One number.

    Args:
        name (`str`): Such as `accuracy`.
        value (`float` or `None`): `None` where it is not defined.
        unit (`str`): `percent`, `share` or `points`.
        low (`float` or `None`): Lower end of the 95 % bootstrap interval.
        high (`float` or `None`): Upper end.
        num_units (`int`): Questions, or images, it is over.
    """

    name: str
    value: float | None
    unit: str
    low: float | None
    high: float | None
    num_units: int


@dataclass(frozen=True)
class ResultRecord:
    """
    A task under one protocol.

    Args:
        task (`str`): Name of the task.
        protocol (`str`): `llava-1.5` or `lmms-eval`.
        protocol_version (`str`): Repository and commit.
        model (`str`): Name of the model.
        model_digest (`str` or `None`): Of its tensors.
        model_revision (`str` or `None`): Commit of the Hub.
        decoding (`Mapping`): What `generate` was given.
        num_questions (`int`): That were to be asked.
        num_unanswered (`int`): Of them, without an answer; counted as wrong.
        is_partial (`bool`): Whether the task has more questions than were answered.
        headline (`str` or `None`): The score that papers report; `None` if there is none here.
        scores (`tuple[ScoreRecord, ...]`): The headline first.
        notes (`tuple[str, ...]`): What a reader must know.
        data_digest (`str`): Of the questions.
        predictions_digest (`str`): SHA-256 of the predictions file.
    """

    task: str
    protocol: str
    protocol_version: str
    model: str
    model_digest: str | None
    model_revision: str | None
    decoding: Mapping[str, DecodingValue]
    num_questions: int
    num_unanswered: int
    is_partial: bool
    headline: str | None
    scores: tuple[ScoreRecord, ...]
    notes: tuple[str, ...]
    data_digest: str
    predictions_digest: str


def write_evaluation(folder: str | Path, results: tuple[ResultRecord, ...]) -> Path:
    """
    Write `evaluation.json`, whole or not at all; equal results give equal bytes.

    Returns:
        `Path`: The file.
    """
    path = Path(folder) / FILE_NAME
    document = {"schema_version": SCHEMA_VERSION, "results": [asdict(result) for result in results]}
    part = path.with_suffix(".json.part")
    part.write_text(json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(part, path)
    return path


__all__ = ["FILE_NAME", "PREDICTIONS_FOLDER", "SCHEMA_VERSION", "ResultRecord", "ScoreRecord", "write_evaluation"]
