"""Hold what a model answered: one header line, then one line per question, from which every score can be had again."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from transformers_llava.artifacts.limits import MAX_ANSWER_LINE_BYTES, MAX_QUESTIONS


FORMAT = "transformers-llava/predictions"
FORMAT_VERSION = 1
StopReason = Literal["end", "length", "stop_string"]
DecodingValue = bool | int | float | str | None | Sequence[str]


class PredictionsError(ValueError):
    """A predictions file cannot be used; names the file, the line and what is wrong there."""


@dataclass(frozen=True)
class PredictionsHeader:
    """
    What was asked of whom, and how.

    Args:
        task (`str`): Name of the task.
        protocol (`str`): `llava-1.5` or `lmms-eval`.
        protocol_version (`str`): Repository and commit whose rule it is.
        model (`str`): Name or last part of the path.
        model_digest (`str` or `None`): Of its tensors; `None` behind an address that does not show them.
        model_revision (`str` or `None`): Commit of a model of the Hub.
        chat_template (`str`): Digest of the template.
        decoding (`Mapping`): What `generate` was given.
        versions (`Mapping[str, str]`): Libraries that answers depend on.
        data_digest (`str`): Of the questions: keys, texts and images.
        num_questions (`int`): That are asked, and answered if the file is whole.
        num_available (`int`): Questions of the task; more than `num_questions` if a limit was set, and then every
            result is partial for good.
    """

    task: str
    protocol: str
    protocol_version: str
    model: str
    model_digest: str | None
    model_revision: str | None
    chat_template: str
    decoding: Mapping[str, DecodingValue]
    versions: Mapping[str, str]
    data_digest: str
    num_questions: int
    num_available: int


@dataclass(frozen=True)
class Prediction:
    """
    The answer to one question.

    Args:
        key (`int` or `str`): Of the question.
        prompt_digest (`str`): SHA-256 of the prompt's text.
        image_digest (`str` or `None`): SHA-256 of the image file; `None` without an image.
        token_ids (`tuple[int, ...]`): Generated, with the end token if there was one.
        text (`str`): Decoded without special tokens, stripped.
        stop_reason (`str`): `end` of the answer, `length` limit or `stop_string`.
    """

    key: int | str
    prompt_digest: str
    image_digest: str | None
    token_ids: tuple[int, ...]
    text: str
    stop_reason: StopReason


@dataclass(frozen=True)
class PredictionsFile:
    """
    Args:
        header ([`PredictionsHeader`]): Of the file.
        predictions (`tuple[Prediction, ...]`): Its whole lines, in order.
        num_bytes (`int`): That header and whole lines take.
        num_bytes_lost (`int`): After them: a last line whose writing was interrupted.
    """

    header: PredictionsHeader
    predictions: tuple[Prediction, ...]
    num_bytes: int
    num_bytes_lost: int = 0

    @property
    def num_missing(self) -> int:
        """Questions that were to be asked and have no answer."""
        return self.header.num_questions - len(self.predictions)

    @property
    def is_partial(self) -> bool:
        """Whether a number made from it is about fewer questions than the task has."""
        return self.num_missing > 0 or self.header.num_questions < self.header.num_available

    @property
    def texts(self) -> dict[int | str, str]:
        """Keys of questions to answers, as the scorers take them."""
        return {prediction.key: prediction.text for prediction in self.predictions}

    @property
    def notes(self) -> tuple[str, ...]:
        """What to print beside a score."""
        header, notes = self.header, []
        if header.num_questions < header.num_available:
            notes.append(f"partial: {header.num_questions} of {header.num_available} questions were to be asked.")
        if self.num_missing:
            notes.append(f"interrupted: {self.num_missing} of {header.num_questions} questions were not answered.")
        if self.num_bytes_lost:
            notes.append(f"the last line was cut off; {self.num_bytes_lost} bytes of it are not read.")
        return tuple(notes)


def header_line(header: PredictionsHeader) -> str:
    """The first line of a file; equal headers give equal bytes."""
    return _line({"format": FORMAT, "format_version": FORMAT_VERSION} | asdict(header))


def prediction_line(prediction: Prediction) -> str:
    """The line of an answer; equal answers give equal bytes."""
    return _line(asdict(prediction))


def text_digest(text: str) -> str:
    """SHA-256 of a prompt or template."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def read_predictions(path: str | Path) -> PredictionsFile:
    """
    Read a predictions file.

    A last line without its end, which an interrupted run leaves, is counted and not read; every other fault raises.

    Raises:
        `PredictionsError`: The file cannot be read, is none of ours or of a later version, a line is damaged, a
            question stands twice, or there are more answers than questions.
    """
    header: PredictionsHeader | None = None
    predictions: dict[int | str, Prediction] = {}
    num_bytes = number = 0
    try:
        with Path(path).open("rb") as file:
            while line := file.readline(MAX_ANSWER_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_ANSWER_LINE_BYTES:
                    raise PredictionsError(f"'{path}', line {number}, is longer than any answer. It is not read.")
                if not line.endswith(b"\n"):
                    if header is None:
                        break
                    return PredictionsFile(header, tuple(predictions.values()), num_bytes, len(line))
                place = f"'{path}', line {number},"
                record = _record(line, place)
                if header is None:
                    header = _header(record, place)
                else:
                    prediction = _prediction(record, place)
                    if prediction.key in predictions:
                        raise PredictionsError(
                            f"{place} answers question {prediction.key!r} a second time. Which answer counts cannot "
                            "be told; ask again into an empty folder."
                        )
                    predictions[prediction.key] = prediction
                    if len(predictions) > header.num_questions:
                        raise PredictionsError(
                            f"{place} is one answer more than the {header.num_questions} questions that the first "
                            "line names. The file was changed or put together; ask again into an empty folder."
                        )
                num_bytes += len(line)
    except OSError as error:
        raise PredictionsError(f"'{path}' cannot be read: {error}. Nothing is scored.") from error
    if header is None:
        raise PredictionsError(
            f"'{path}' has no whole first line, so it is not known what was asked of which model. Delete it and ask "
            "again."
        )
    return PredictionsFile(header, tuple(predictions.values()), num_bytes)


def resume_predictions(path: str | Path, header: PredictionsHeader) -> tuple[Prediction, ...]:
    """
    Open a file for appending: write the header into a new one, or cut an interrupted one back to whole lines.

    Returns:
        `tuple[Prediction, ...]`: The answers that are there; what is appended after them belongs to the same run.

    Raises:
        `PredictionsError`: The file was made with other settings; names the fields that differ.
    """
    path = Path(path)
    first = header_line(header).encode("ascii")
    size = path.stat().st_size if path.exists() else 0
    if size < len(first) and (size == 0 or path.read_bytes() == first[:size]):  # none, or cut off in the first line
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(first)
        return ()
    found = read_predictions(path)
    differing = [
        field.name
        for field in fields(header)
        if _plain(getattr(header, field.name)) != getattr(found.header, field.name)
    ]
    if differing:
        shown = "; ".join(
            f"{name}: {getattr(found.header, name)!r} there, {getattr(header, name)!r} now" for name in differing
        )
        raise PredictionsError(
            f"'{path}' was begun with other settings ({shown}), so answers of two runs would be mixed. Use another "
            "output folder, or delete the file to ask again."
        )
    os.truncate(path, found.num_bytes)
    return found.predictions


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, sort_keys=True, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """A value as it comes back from JSON: tuples are lists."""
    return json.loads(json.dumps(value))


def _record(line: bytes, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise PredictionsError(
            f"{place} is damaged: {error}. Answers after it cannot be trusted; restore the file or ask again."
        ) from error
    if not isinstance(record, dict):
        raise PredictionsError(f"{place} is no mapping. It is not a predictions file of ours, or was damaged.")
    return record


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _header(record: dict[str, Any], place: str) -> PredictionsHeader:
    if record.pop("format", None) != FORMAT:
        raise PredictionsError(f"{place} does not say {FORMAT!r}. It is not a predictions file of ours.")
    version = record.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise PredictionsError(
            f"{place} is of format version {version!r}; this version of the package reads {FORMAT_VERSION}. Use the "
            "version that wrote it."
        )
    expected: dict[str, type | tuple[type, ...]] = {
        **dict.fromkeys(("task", "protocol", "protocol_version", "model", "chat_template", "data_digest"), str),
        **dict.fromkeys(("model_digest", "model_revision"), (str, type(None))),
        **dict.fromkeys(("decoding", "versions"), dict),
        **dict.fromkeys(("num_questions", "num_available"), int),
    }
    _check(record, expected, place)
    if not 0 <= record["num_questions"] <= record["num_available"] <= MAX_QUESTIONS:
        raise PredictionsError(
            f"{place} counts {record['num_questions']} questions of {record['num_available']}, which cannot be."
        )
    return PredictionsHeader(**record)


def _prediction(record: dict[str, Any], place: str) -> Prediction:
    expected: dict[str, type | tuple[type, ...]] = {
        "key": (int, str),
        "prompt_digest": str,
        "image_digest": (str, type(None)),
        "token_ids": list,
        "text": str,
        "stop_reason": str,
    }
    _check(record, expected, place)
    if record["stop_reason"] not in get_args(StopReason):
        raise PredictionsError(
            f"{place} has the stop reason {record['stop_reason']!r}; there are {', '.join(get_args(StopReason))}."
        )
    ids = record["token_ids"]
    if not all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in ids):
        raise PredictionsError(f"{place} has token ids that are none: {str(ids)[:80]}.")
    return Prediction(**(record | {"token_ids": tuple(ids)}))


def _check(record: Mapping[str, Any], expected: Mapping[str, type | tuple[type, ...]], place: str) -> None:
    if record.keys() != expected.keys():
        lacking, foreign = sorted(expected.keys() - record.keys()), sorted(record.keys() - expected.keys())
        raise PredictionsError(f"{place} lacks {lacking} and has {foreign} too many. It was damaged or changed.")
    for name, kind in expected.items():
        if not isinstance(record[name], kind) or isinstance(record[name], bool):
            raise PredictionsError(f"{place} has {str(record[name])[:80]!r} as `{name}`. It was damaged or changed.")


__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "Prediction",
    "PredictionsError",
    "PredictionsFile",
    "PredictionsHeader",
    "StopReason",
    "header_line",
    "prediction_line",
    "read_predictions",
    "resume_predictions",
    "text_digest",
]
