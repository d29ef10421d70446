"""Sum up what the demo found, for `demo_report.json` and for one screen."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SourceAccuracy:
    """Held-out accuracy of one source, 0 to 1, with its images and, as a control, without looking at them."""

    name: str
    accuracy: float
    blind_accuracy: float
    num_examples: int


@dataclass(frozen=True)
class Sample:
    """One held-out image with its question, what is right, and what was answered, here and in a fresh process."""

    source: str
    image: Path
    question: str
    truth: str
    answer: str
    fresh_answer: str | None = None

    def answered_again(self, answer: str) -> "Sample":
        return replace(self, fresh_answer=answer)

    @property
    def is_same_in_fresh_process(self) -> bool:
        return self.fresh_answer == self.answer


@dataclass(frozen=True)
class DemoReport:
    """
    Everything that the demo reports.

    Args:
        seed (`int`): What all random choices came from.
        seconds (`float`): Wall time of the whole demo, without installation.
        peak_memory_gb (`float`): Most memory held at once, child processes included, in 10^9 bytes.
        weights_sha256 (`str`): Digest of the final weights.
        sources (`Sequence[SourceAccuracy]`): Held-out accuracies.
        parts (`dict`): Reports of the pre-trained parts.
        runs (`dict`): The run records (`run.json`) of the stages, by name.
        samples (`Sequence[Sample]`): Images for the page, asked again by a fresh process.
    """

    seed: int
    seconds: float
    peak_memory_gb: float
    weights_sha256: str
    sources: Sequence[SourceAccuracy]
    parts: dict[str, Any]
    runs: dict[str, dict[str, Any]]
    samples: Sequence[Sample]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "accuracy": {source.name: round(source.accuracy, 4) for source in self.sources},
            "blind_accuracy": {source.name: round(source.blind_accuracy, 4) for source in self.sources},
            "num_examples": {source.name: source.num_examples for source in self.sources},
            "seconds": round(self.seconds, 1),
            "peak_memory_gb": round(self.peak_memory_gb, 2),
            "weights_sha256": self.weights_sha256,
            "seed": self.seed,
            "fresh_process": {
                "asked": len(self.samples),
                "same_answers": sum(sample.is_same_in_fresh_process for sample in self.samples),
            },
            "parts": self.parts,
            "stages": {name: stage_summary(run) for name, run in self.runs.items()},
            "versions": self.runs["instruct"]["versions"],
        }

    def to_text(self) -> str:
        """The summary that ends the demo, on one screen."""
        same = sum(sample.is_same_in_fresh_process for sample in self.samples)
        lines = ["", "held-out accuracy        with images    without    questions"]
        lines += [
            f"  {source.name:<22} {source.accuracy:>12.1%} {source.blind_accuracy:>10.1%} {source.num_examples:>12,}"
            for source in self.sources
        ]
        lines += ["", "stage        trained                              loss            tokens   seconds"]
        for name, run in self.runs.items():
            stage = stage_summary(run)
            trained = " + ".join(row["component"] for row in run["components"] if row["trainable"])
            loss = f"{stage['first_loss']:.2f} -> {stage['last_loss']:.3f}"
            lines.append(f"  {name:<10} {trained:<36} {loss:<12} {stage['num_tokens']:>9,} {stage['seconds']:>9.0f}")
        lines += [
            "",
            f"fresh process: {same} of {len(self.samples)} answers the same",
            f"{self.seconds:.0f} seconds, {self.peak_memory_gb:.2f} GB, seed {self.seed}, "
            f"weights sha256 {self.weights_sha256[:16]}...",
        ]
        return "\n".join(lines)


def stage_summary(run: dict[str, Any]) -> dict[str, Any]:
    """The few figures of a run record that a summary needs."""
    losses = [entry["loss"] for entry in run["loss_history"] if "loss" in entry]
    progress = run["progress"]
    return {
        "steps": progress["global_step"],
        "seconds": progress["seconds"],
        "num_tokens": progress["num_tokens"],
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "weights_sha256": run["weights_sha256"],
        "rejected_records": run["data"]["num_dropped"],
    }


__all__ = ["DemoReport", "Sample", "SourceAccuracy", "stage_summary"]
