"""Read what share of a card's peak `make gpu` measured, which a plan may count on, and where the number is from."""

import json
from dataclasses import dataclass
from pathlib import Path

from transformers_llava.training.estimate.gpus import Gpu


# Written by `python -m benchmarks.harness.performance_page` from benchmarks/results/gpu/training.json; absent as long
# as nothing was measured.
MEASURED_FILE = Path(__file__).with_name("measured.json")


@dataclass(frozen=True)
class MeasuredShare:
    """Useful operations per second of a training step over the peak that the maker states."""

    gpu: str  # the card's own name, such as "NVIDIA H200"
    stage: int
    share_of_peak: float
    name: str  # of the line in `file`
    date: str
    command: str
    file: str


def read_measured(file: Path = MEASURED_FILE) -> list[MeasuredShare]:
    """Every measured share; none where there is no file."""
    if not file.is_file():
        return []
    return [MeasuredShare(**entry) for entry in json.loads(file.read_text(encoding="utf-8"))]


def find_share(shares: list[MeasuredShare], gpu: Gpu, stage: int) -> MeasuredShare | None:
    """The share of a card in a stage; `None` where that was not measured."""
    return next((share for share in shares if gpu.model in share.gpu and share.stage == stage), None)


__all__ = ["MEASURED_FILE", "MeasuredShare", "find_share", "read_measured"]
