"""Checkpoints hold what is trainable, are whole or not there, and a full disk costs only the one being written."""

import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.torch import load_file

from transformers_llava.training.checkpoints.atomic import CheckpointError
from transformers_llava.training.trainer import LlavaTrainer


STEPS = {"num_train_epochs": 1, "save_strategy": "steps", "save_steps": 1}  # three steps


def test_a_stage_1_checkpoint_holds_the_projector_alone(run: Callable) -> None:
    folder, _ = run(chat_template="plain", language_model=None, **STEPS)
    checkpoint = folder / "checkpoint-2"
    weights = load_file(checkpoint / "trainable.safetensors")
    assert {name.rpartition(".")[0] for name in weights} == {
        "model.multi_modal_projector.linear_1",
        "model.multi_modal_projector.linear_2",
    }
    assert {path.name for path in checkpoint.iterdir()} == {
        *("trainable.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "run.json")
    }
    assert not (folder / "unfinished").exists()


def test_the_oldest_checkpoints_are_removed(run: Callable) -> None:
    folder, _ = run(save_total_limit=2, **STEPS)
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"]


def at_step(step: int, act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Does something just before the checkpoint of a step is written."""
    original = LlavaTrainer._save_checkpoint

    def save(self: LlavaTrainer, *args) -> None:
        if self.state.global_step == step:
            act()
        original(self, *args)

    monkeypatch.setattr(LlavaTrainer, "_save_checkpoint", save)


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """The system refuses to make a file longer, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("num_bytes", [1_000, 700_000])  # no weights fit; the weights do, the optimizer does not
def test_a_full_disk_is_said_and_keeps_the_earlier_checkpoint(
    run: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, num_bytes: int
) -> None:
    whole, _ = run("whole", **STEPS)
    limit = files_of_at_most(num_bytes)
    with monkeypatch.context() as patch:
        at_step(2, limit.__enter__, patch)
        try:
            with pytest.raises(CheckpointError, match="the checkpoint of step 2 could not be written") as caught:
                run("full", **STEPS)
        finally:
            limit.__exit__(None, None, None)
    assert "earlier checkpoints are as they were" in str(caught.value)
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["checkpoint-1", "metrics.jsonl"]
    resumed, _ = run("full", **STEPS, resume_from_checkpoint=True)
    assert (resumed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_with_a_checkpoint_to_go_on_from(
    run: Callable, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    whole, _ = run("whole", num_train_epochs=1)
    before = signal.getsignal(number)
    original = LlavaTrainer.training_step

    def step(self: LlavaTrainer, *args, **kwargs):
        if self.state.global_step == 1:
            os.kill(os.getpid(), number)
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(LlavaTrainer, "training_step", step)
        stopped, _ = run("stopped", num_train_epochs=1)
    assert sorted(path.name for path in stopped.iterdir()) == ["checkpoint-2", "metrics.jsonl"]
    assert signal.getsignal(number) == before
    resumed, _ = run("stopped", num_train_epochs=1, resume_from_checkpoint=True)
    assert (resumed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_what_a_killed_process_left_is_passed_over_and_removed(run: Callable, tmp_path: Path) -> None:
    whole, _ = run("whole", **STEPS)
    killed, _ = run("killed", **STEPS)
    (killed / "unfinished").mkdir()
    (killed / "checkpoint-3").rename(killed / "unfinished" / "checkpoint-3")
    (killed / "model.safetensors").unlink()
    run("killed", **STEPS, resume_from_checkpoint=True)
    assert not (killed / "unfinished").exists()
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
