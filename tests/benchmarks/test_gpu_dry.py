"""The GPU suite runs on small shapes on a CPU, so that it does not rot until a GPU is at hand; no figure counts."""

import importlib
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu.measuring import main, useful_flops
from benchmarks.gpu.shapes import DRY, REAL, Sample, make_ours, num_tokens, packed_batch, stage_samples
from benchmarks.harness.ceilings import count_flops
from benchmarks.harness.results import read_results


QUESTIONS = ("ceilings", "training", "low_memory", "attention", "inference", "host")


@pytest.mark.gpu
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_runs_dry_and_writes_figures(question: str, tmp_path: Path) -> None:
    if question == "low_memory":
        pytest.importorskip("bitsandbytes")
    file = tmp_path / "results.json"
    module = importlib.import_module(f"benchmarks.gpu.{question}")
    assert main(question, module.measure, ["--dry", "--json", str(file)]) == 0
    lines = read_results(file)
    assert lines
    for line in lines:
        assert math.isfinite(line["ours"]), line["name"]
        assert line["gpu"].startswith("dry run"), "a dry figure cannot be taken for a real one"
        assert not line["notes"].get("is_plan"), "nothing is planned with a dry figure"


def test_without_a_gpu_nothing_is_measured(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        main("ceilings", lambda shapes, device: [], [])
    assert "no GPU is to be seen" in capsys.readouterr().err


def test_real_shapes_are_those_of_llava_v1_5_7b() -> None:
    block = 4 * REAL.hidden**2 + 3 * REAL.hidden * REAL.intermediate
    assert REAL.layers * block == 6_476_005_376  # counted of Vicuna-7B
    samples = stage_samples(REAL, 1)
    per_example = useful_flops(REAL, samples, 1) / len(samples) / 1e12
    assert per_example == pytest.approx(16.46, rel=0.03)  # reference: counted on the real graph
    stage_2 = useful_flops(REAL, [Sample(274, 91, True)], 2) / 1e12
    assert stage_2 == pytest.approx(34.74, rel=0.03)


def test_useful_operations_are_those_of_a_packed_step() -> None:
    """Counted by torch on a small model in which the tower is frozen and the rest learns."""
    samples = stage_samples(DRY, 2)
    model = make_ours(DRY, "cpu", "varlen").train()
    model.model.vision_tower.requires_grad_(False)
    batch = packed_batch(DRY, samples, "cpu")

    def step() -> None:
        model(**batch, use_cache=False).loss.backward()

    counted = count_flops(step)
    assert batch["input_ids"].numel() == num_tokens(DRY, samples)
    assert useful_flops(DRY, samples, 2) == pytest.approx(counted, rel=0.1)


def test_a_variant_that_does_not_fit_is_a_line_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.gpu import training

    real, made = training._make_step, []

    def make_step(model: Any, stage: int) -> Any:
        made.append(model)
        step = real(model, stage)

        def small_card(batch: dict[str, Any]) -> torch.Tensor:
            if len(made) == 2 and "cu_seq_lens_q" in batch:  # ours, packed
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nmore words")
            return step(batch)

        return small_card

    monkeypatch.setattr(training, "_make_step", make_step)
    lines = training._stage(DRY, "cpu", 2, 1e12)
    assert [line.ratio is None for line in lines] == [False, False, True, True]
    assert lines[2].ours_is == "out of memory: CUDA out of memory. Tried to allocate 9 GiB."
