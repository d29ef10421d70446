"""Count what was trained on as rates: useful tokens, not positions; counted per step, read only when logged."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

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
                self._add("images", len(batch["image_sizes"]))

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
            text_tokens=total["tokens"] / samples,  # images included: the language model reads both alike
            label_tokens=total["supervised_tokens"] / samples,
            image_share=total["images"] / samples,
            image_tokens=0,
            tiles=round(total["tiles"] / max(total["images"], 1.0)),
            origin="counted",
        )
        return flops_per_example(self.model, self.modes, shape, checkpointed=0.0).useful * samples


def _scalar(value: torch.Tensor | float, device: torch.device) -> torch.Tensor:
    """In float32 on the device; a number is written there, for copying one waits for what the device has to do."""
    if isinstance(value, torch.Tensor):
        return value.to(device, torch.float32)
    return torch.full((), value, dtype=torch.float32, device=device)


class TokenMetrics:
    """
    Entropy, accuracy and tokens of the micro-steps of one process since the last line of the log.

    [`~trl.SFTTrainer`] has the same figures, and waits for the device in every micro-step to get them.
    """

    def __init__(self) -> None:
        self._sums: list[torch.Tensor] = []

    def add(self, outputs: Any, num_tokens: torch.Tensor | int) -> None:
        """
        Notes one micro-step; reads nothing.

        Args:
            outputs (`FusedCausalLMOutput`): Of TRL's fused head, with `entropy` and `is_top1`.
            num_tokens (`torch.Tensor` or `int`): Of this process.
        """
        entropy = outputs.entropy.detach().sum()
        aux_loss = 0.0 if outputs.aux_loss is None else outputs.aux_loss.detach()
        amounts = (outputs.label_mask.sum(), entropy, outputs.is_top1.sum(), num_tokens, aux_loss)
        self._sums.append(torch.stack([_scalar(amount, entropy.device) for amount in amounts])[None])  # (1, 5)
        if len(self._sums) == 256:  # few tensors, however long the log waits
            self._sums = [torch.cat(self._sums)]

    def read(self, accelerator: Any) -> dict[str, list[float]]:
        """
        One figure per micro-step, of all processes together, and starts anew. Collective.

        Returns:
            `dict`: `entropy` and `mean_token_accuracy` (means over supervised tokens, 0 without any), `num_tokens`
            and `aux_loss` (mean over processes).
        """
        if not self._sums:
            return {}
        ranks = accelerator.gather(torch.cat(self._sums)[None])  # (world_size, micro-steps, 5)
        self._sums = []
        supervised, entropy, correct, tokens, aux_loss = ranks.sum(0).unbind(1)
        figures = (entropy / supervised.clamp(min=1), correct / supervised.clamp(min=1), tokens, aux_loss / len(ranks))
        names = ("entropy", "mean_token_accuracy", "num_tokens", "aux_loss")
        return dict(zip(names, torch.stack(figures).tolist(), strict=True))


class LossWatch:
    """The first loss that was not finite, kept on the device until somebody asks."""

    def __init__(self) -> None:
        self._first: torch.Tensor | None = None  # (step, loss); step is -1 as long as every loss was finite

    def note(self, loss: torch.Tensor, step: int) -> None:
        """Looks at the loss of a micro-step of optimizer step `step`, counted from 0; reads nothing."""
        loss = _scalar(loss.detach(), loss.device)
        now = torch.stack([_scalar(step, loss.device), loss])
        if self._first is None:
            self._first = torch.full_like(now, -1.0)
        self._first = torch.where((self._first[0] < 0) & ~loss.isfinite(), now, self._first)

    def read(self) -> tuple[int, float] | None:
        """Step and loss of the first that was not finite, or `None`."""
        step, loss = (-1.0, 0.0) if self._first is None else self._first.tolist()
        return None if step < 0 else (int(step), loss)


def are_finite(parameters: Sequence[torch.Tensor], device: torch.device) -> torch.Tensor:
    """
    Whether all of a parameter is finite, as far as this process holds it; copies none of them.

    Returns:
        `torch.Tensor`: (num_parameters,), 1 or 0, on `device`.
    """
    flags = []
    for parameter in parameters:
        held = getattr(parameter, "ds_tensor", parameter).detach()  # of ZeRO-3
        held = held.to_local() if isinstance(held, DTensor) else held  # of FSDP2
        least, most = held.aminmax() if held.numel() else (torch.zeros(()), torch.zeros(()))
        flags.append((least.isfinite() & most.isfinite()).to(device, torch.int32))
    return torch.stack(flags) if flags else torch.ones(0, dtype=torch.int32, device=device)


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


__all__ = ["LossWatch", "METRICS_NAME", "Telemetry", "TokenMetrics", "are_finite", "write_metrics"]
