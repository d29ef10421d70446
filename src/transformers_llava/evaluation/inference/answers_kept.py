"""Keep answers while they are made: each process appends to its own file, and the whole is put in order at the end."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from transformers_llava.artifacts.atomic_write import write_atomically
from transformers_llava.artifacts.evaluation_files.evaluation_record import PREDICTIONS_FOLDER
from transformers_llava.artifacts.evaluation_files.predictions import (
    Prediction,
    PredictionsError,
    PredictionsHeader,
    header_line,
    prediction_line,
    read_predictions,
    resume_predictions,
)
from transformers_llava.evaluation.questions.question import Key


def predictions_path(output_dir: str | Path, task: str, protocol: str) -> Path:
    """`OUT/predictions/pope.jsonl` of protocol `llava-1.5`, and `pope.lmms-eval.jsonl` of the other."""
    name = task if protocol == "llava-1.5" else f"{task}.{protocol}"
    return Path(output_dir) / PREDICTIONS_FOLDER / f"{name}.jsonl"


def check_kept(path: Path, header: PredictionsHeader) -> None:
    """
    Cut what an earlier run left back to whole lines; one process does this while the others wait.

    Raises:
        `PredictionsError`: A file was made with other settings, or is damaged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for file in _files(path):
        resume_predictions(file, header)


def read_kept(path: Path) -> dict[Key, Prediction]:
    """The answers that are there, in the finished file or those of the processes of earlier runs."""
    return {prediction.key: prediction for file in _files(path) for prediction in read_predictions(file).predictions}


def finish(path: Path, header: PredictionsHeader, keys: Sequence[Key]) -> None:
    """
    Write the finished file, whole or not at all, with answers in the order of `keys`; then remove the others.

    Raises:
        `PredictionsError`: An answer is missing, or belongs to no question.
    """
    kept = read_kept(path)
    missing, foreign = [key for key in keys if key not in kept], kept.keys() - set(keys)
    if missing or foreign:
        raise PredictionsError(
            f"'{path}' would lack {len(missing)} answers and have {len(foreign)} that belong to no question. Files "
            "beside it were changed while the model was asked; delete them and ask again."
        )
    write_atomically(path, header_line(header) + "".join(prediction_line(kept[key]) for key in keys))
    for file in _parts(path):
        file.unlink()


class AnswersFile:
    """
    Append answers of one process, a whole batch at once.

    Args:
        path (`Path`): Of the finished file; answers go into `<path>.part<rank>`.
        header ([`PredictionsHeader`]): Of the run.
        rank (`int`): Of the process.
    """

    def __init__(self, path: Path, header: PredictionsHeader, rank: int) -> None:
        part = path.with_name(f"{path.name}.part{rank}")
        resume_predictions(part, header)
        self._file = part.open("ab")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._file.close()

    def append(self, predictions: Iterable[Prediction]) -> None:
        """Write them; what was written survives the end of the process, however it ends."""
        self._file.write("".join(map(prediction_line, predictions)).encode("ascii"))
        self._file.flush()


def _files(path: Path) -> list[Path]:
    return ([path] if path.exists() else []) + _parts(path)


def _parts(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.part[0-9]*"))


__all__ = ["AnswersFile", "check_kept", "finish", "predictions_path", "read_kept"]
