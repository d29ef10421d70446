"""Batches that were trained on to rates: useful tokens, not positions; counted per step, read only when logged."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from transformers_llava.training.estimate.flops import flops_per_example
from transformers_llava.training.estimate.gpus import device_peak
from transformers_llava.training.estimate.recipe_shapes import DataShape


logger = logging.getLogger(__name__)

METRICS_NAME = "metrics.jsonl"

_COUNTS = ("tokens", "supervised_tokens", "positions", "samples", "images", "tiles")


class Telemetry:
    """
    Counts of one process since the last line of the log.

    Counts stay on the device as they come; nothing waits for them until `read`, which is called when a line is logged.

    Args:
        model (`OpenLlavaForConditionalGeneration`): The LLaVA that is trained, for the operations of an example.
        modes (`Mapping[str, str]`): Component to `frozen`, `full` or `lora`.
        num_rejected (`int`): Records that were left out before training.
    """

    def __init__(self, model: Any, modes: Mapping[str, str], *, num_rejected: int = 0) -> None:
        with torch.device("meta"):  # shapes alone: the model itself may soon be quantised, wrapped or sharded
            self.model = type(model)(model.config)
        self.modes = dict(modes)
        self.num_rejected = num_rejected
        self.started_at = time.perf_counter()
        self.counts: dict[str, torch.Tensor | int] = dict.fromkeys(_COUNTS, 0)

    def count(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Adds the batches of one optimizer step."""
        for batch in batches:
            mask, labels = batch.get("attention_mask"), batch["labels"]
            self._add("positions", labels.numel())
            self._add("tokens", labels.numel() if mask is None else mask.sum())
            self._add("supervised_tokens", (labels != -100).sum())
            documents = batch.get("cu_seq_lens_q")
            self._add("samples", labels.shape[0] if documents is None else documents.shape[0] - 1)
            if batch.get("pixel_values") is not None:
                self._add("tiles", batch["pixel_values"].shape[0])
                self._add("images", batch["image_sizes"].shape[0])

    def _add(self, name: str, amount: torch.Tensor | int) -> None:
        self.counts[name] = self.counts[name] + amount

    def read(self, accelerator: Any) -> dict[str, float]:
        """
        Rates of all processes together since the last time, and starts counting anew. Collective.

        Returns:
            `dict`: `tokens_per_second`, `supervised_tokens_per_second`, `samples_per_second`, `images_per_second`,
            `padding` (share of positions that hold no token), `balance` (tokens of the busiest process over their
            mean), `tflop_per_second` of useful work per process, `mfu` where the device's peak is known,
            `peak_memory_gb`, and `rejected_records`.
        """
        now = time.perf_counter()
        seconds, self.started_at = max(now - self.started_at, 1e-9), now
        own = torch.tensor([float(self.counts[name]) for name in _COUNTS], device=accelerator.device)
        ranks = accelerator.gather(own[None])  # (world_size, counts)
        self.counts = dict.fromkeys(_COUNTS, 0)
        total = dict(zip(_COUNTS, ranks.sum(0).tolist(), strict=True))
        tokens_of_ranks = ranks[:, 0]
        rates = {
            "tokens_per_second": total["tokens"] / seconds,
            "supervised_tokens_per_second": total["supervised_tokens"] / seconds,
            "samples_per_second": total["samples"] / seconds,
            "images_per_second": total["images"] / seconds,
            "padding": 1 - total["tokens"] / max(total["positions"], 1.0),
            "balance": float(tokens_of_ranks.max() / tokens_of_ranks.mean().clamp(min=1e-9)),
            "rejected_records": float(self.num_rejected),
        }
        if total["samples"]:
            operations = self._operations(total) / seconds / len(ranks)
            rates["tflop_per_second"] = operations / 1e12
            peak = device_peak()
            if peak is not None:
                rates["mfu"] = operations / peak
        return rates

    def _operations(self, total: Mapping[str, float]) -> float:
        """Useful ones: what checkpointing repeats does not count."""
        samples = total["samples"]
        shape = DataShape(
            num_examples=int(samples),
            text_tokens=total["tokens"] / samples,  # pictures included: the language model reads both alike
            label_tokens=total["supervised_tokens"] / samples,
            image_share=total["images"] / samples,
            image_tokens=0,
            tiles=round(total["tiles"] / max(total["images"], 1.0)),
            origin="counted",
        )
        return flops_per_example(self.model, self.modes, shape, checkpointed=0.0).useful * samples


def write_metrics(folder: Path, step: int, values: Mapping[str, Any]) -> None:
    """
    Appends one line to `metrics.jsonl`; a run that is resumed goes on in the same file.

    A line that cannot be written is said and does not end the training: the next checkpoint will, if the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / METRICS_NAME).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
    except OSError as error:
        logger.warning("the metrics of step %s could not be written: %s", step, error)


__all__ = ["METRICS_NAME", "Telemetry", "write_metrics"]
