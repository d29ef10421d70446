"""What the log says of a run, against what can be counted by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import tiny
from transformers_llava.training.telemetry import LossWatch, Telemetry, TokenMetrics


FULL = {"vision_tower": "frozen", "multi_modal_projector": "full", "language_model": "full"}


def accelerator() -> SimpleNamespace:
    """One process whose twin trained on three times as many of everything."""
    return SimpleNamespace(device="cpu", gather=lambda own: torch.cat([own, 3 * own]))


def test_rates_count_tokens_and_not_padding() -> None:
    telemetry = Telemetry(tiny.make_model(), FULL, num_rejected=7)
    labels = torch.tensor([[-100, 5, 6], [-100, 7, -100]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    pixels = {"pixel_values": torch.zeros(2, 3, 28, 28), "image_sizes": [(28, 28), (28, 28)]}
    telemetry.count([{"labels": labels, "attention_mask": mask, **pixels}])
    telemetry.count([{"labels": labels[:1], "cu_seq_lens_q": torch.tensor([0, 2, 3])}])
    telemetry.started_at -= 1_000_000.0  # long ago, so that the moment of reading does not matter
    rates = telemetry.read(accelerator())
    seconds = pytest.approx(1_000_000.0, rel=1e-3)
    assert 4 * 8 / rates["tokens_per_second"] == seconds
    assert 4 * 5 / rates["supervised_tokens_per_second"] == seconds
    assert 4 * 4 / rates["samples_per_second"] == seconds
    assert 4 * 2 / rates["images_per_second"] == seconds
    assert rates["padding"] == pytest.approx(1 / 9)
    assert rates["balance"] == pytest.approx(1.5)
    assert rates["rejected_records"] == 7
    assert rates["tflop_per_second"] > 0
    assert telemetry.read(accelerator())["tokens_per_second"] == 0


def test_the_first_loss_that_is_not_finite_is_kept() -> None:
    watch = LossWatch()
    assert watch.read() is None
    for step, loss in ((6, 2.5), (7, float("inf")), (8, float("nan"))):
        watch.note(torch.tensor(loss, dtype=torch.bfloat16), step)
        assert (watch.read() is None) == (step == 6)
    assert watch.read() == (7, float("inf"))


def test_token_metrics_are_those_of_each_micro_step_on_all_processes() -> None:
    metrics = TokenMetrics()
    zeros = torch.zeros(1, 4)
    mask, top1 = torch.tensor([[1, 1, 0, 1]]).bool(), torch.tensor([[1, 0, 0, 0]]).bool()
    some = {"log_probs": zeros, "entropy": torch.tensor([[1.0, 2.0, 0.0, 3.0]]), "label_mask": mask, "is_top1": top1}
    none = {"log_probs": zeros, "entropy": zeros, "label_mask": zeros.bool(), "is_top1": zeros.bool()}
    for _ in range(300):
        metrics.add(SimpleNamespace(**some, aux_loss=torch.tensor(0.5)), 7)
    metrics.add(SimpleNamespace(**none, aux_loss=None), torch.tensor(9))
    figures = metrics.read(accelerator())  # sums of all ranks are four times ours
    assert figures["entropy"] == [2.0] * 300 + [0.0]
    assert figures["mean_token_accuracy"] == pytest.approx([1 / 3] * 300 + [0.0])
    assert figures["num_tokens"] == [28.0] * 300 + [36.0]
    assert figures["aux_loss"] == [1.0] * 300 + [0.0]
    assert metrics.read(accelerator()) == {}


def test_every_logged_step_is_a_line_of_metrics(run: Callable, data_file: Path) -> None:
    folder, record = run(packed=True, num_train_epochs=1)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3]
    for line in steps:
        assert line["padding"] == 0.0
        assert line["balance"] == 1.0
        assert line["tokens_per_second"] > line["supervised_tokens_per_second"] > 0
        assert line["peak_memory_gb"] > 0
        assert {"learning_rate", "mean_token_accuracy", "samples_per_second", "images_per_second"} <= line.keys()
    assert record.loss_history[0]["tokens_per_second"] == steps[0]["tokens_per_second"]


def test_a_padded_run_says_how_much_it_pads(run: Callable) -> None:
    _, record = run(num_train_epochs=1)
    assert all(0 < entry["padding"] < 1 for entry in record.loss_history if "loss" in entry)
