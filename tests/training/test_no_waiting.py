"""No optimizer step reads a value from the device: the host would wait there until the device has caught up.

A read is an operator that hands a value to Python (`.item()`, `bool(tensor)`, `.tolist()`) or whose result has a size
that only the values decide (`nonzero`, indexing with a mask). On a CPU they run as on any device, so they are counted
in a real step and named by the line of ours, TRL's, transformers' or accelerate's code that asked. Not seen: what runs
on a GPU alone, such as the mask of TRL's head there.
"""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from transformers_llava.training.trainer import LlavaTrainer


READS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal", "aten::is_nonzero"}
# What runs on the CPU also where training is on a GPU: batches are made there, AdamW counts its steps there, and
# attention by single documents is what a GPU's kernels do in one call.
ON_THE_HOST = ("torch/utils/data/", "torch/optim/", "transformers_llava/modeling/packs/varlen_attention.py")
PACKAGES = ("transformers_llava/", "/trl/", "/transformers/", "/accelerate/", "/peft/")
READING = {"log", "_save_checkpoint", "_maybe_log_save_evaluate", "_finalize_training"}  # where values are wanted


class Reads(TorchDispatchMode):
    """Lines that read a value while `is_watching`."""

    def __init__(self) -> None:
        super().__init__()
        self.is_watching = False
        self.lines: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        has_mask = name == "aten::index" and any(t is not None and t.dtype == torch.bool for t in args[1])
        if self.is_watching and (name in READS or has_mask):
            self._note(name)
        return func(*args, **(kwargs or {}))

    def _note(self, name: str) -> None:
        frames = traceback.extract_stack()
        if any(part in frame.filename for frame in frames for part in ON_THE_HOST):
            return
        if any(frame.name == "check_counts" for frame in frames):  # elsewhere than on a CPU the device itself raises
            return
        if any(frame.name in READING and "/train" in frame.filename for frame in frames):
            return
        ours = [frame for frame in frames if any(package in frame.filename for package in PACKAGES)]
        where = ours[-1] if ours else frames[-1]
        self.lines.append(f"{where.filename.rpartition('site-packages/')[2]}:{where.lineno} ({name}) {where.line}")


@contextmanager
def watched_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reads]:
    """Counts reads from the first batch of a step to the last callback after it, batches being made apart."""
    reads = Reads()
    inner = LlavaTrainer._inner_training_loop

    def run(self: LlavaTrainer, *args: Any, **kwargs: Any) -> Any:
        with reads:
            reads.is_watching = True
            try:
                return inner(self, *args, **kwargs)
            finally:
                reads.is_watching = False

    monkeypatch.setattr(LlavaTrainer, "_inner_training_loop", run)
    yield reads


STAGES: dict[str, dict[str, Any]] = {
    "align": {"stage": "align", "chat_template": "plain", "language_model": None},
    "instruct": {},
    "lora": {"language_model": {"mode": "lora", "lora_rank": 4, "lora_alpha": 8}},
    "checkpointing": {"gradient_checkpointing": True},
    "accumulated": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
    "dft": {"loss_type": "dft"},
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_step_reads_nothing_from_the_device(run: Callable, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    with watched_steps(monkeypatch) as reads:
        _, record = run(**STAGES[stage], packed=True, attn_implementation="varlen", max_steps=2)
    assert record.progress.global_step == 2
    assert not reads.lines, "\n".join(sorted(set(reads.lines)))


def test_a_padded_step_reads_only_whether_its_mask_is_needed(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    with watched_steps(monkeypatch) as reads:
        run(packed=False, max_steps=2)
    assert reads.lines
    assert all(line.startswith("transformers/masking_utils.py") for line in reads.lines), "\n".join(reads.lines)


def test_a_read_is_named_by_its_line(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    original = LlavaTrainer.training_step

    def waiting(self: LlavaTrainer, *args: Any, **kwargs: Any) -> Any:
        loss = original(self, *args, **kwargs)
        return loss if loss.isfinite() else loss * 2

    monkeypatch.setattr(LlavaTrainer, "training_step", waiting)
    with watched_steps(monkeypatch) as reads:
        run(packed=True, attn_implementation="varlen", max_steps=1)
    assert [line.split(" ")[1] for line in reads.lines] == ["(aten::_local_scalar_dense)"] * 2  # two micro-steps


def test_pinned_batches_are_copied_without_waiting(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    original = LlavaTrainer.__init__

    def pinned(self: LlavaTrainer, *args: Any, **kwargs: Any) -> None:
        kwargs["args"].dataloader_pin_memory = True  # on a CPU transformers switches it off
        original(self, *args, **kwargs)
        found.append(self.accelerator.non_blocking)

    run("plain", max_steps=1)
    monkeypatch.setattr(LlavaTrainer, "__init__", pinned)
    run("pinned", max_steps=1)
    assert found == [True]
