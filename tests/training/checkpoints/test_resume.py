"""A run that was stopped and resumed ends with the same bits as one that was not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from transformers_llava.training.recipe.recipe_error import RecipeError


STEPS = {"num_train_epochs": 3, "save_strategy": "steps", "save_steps": 1}  # three steps an epoch


@pytest.mark.parametrize("packed", [False, True])
def test_resuming_in_any_epoch_is_bitwise(run: Callable, packed: bool) -> None:
    whole, reference = run("whole", **STEPS, packed=packed)
    assert [path.name for path in sorted(whole.glob("checkpoint-*"))] == [f"checkpoint-{i}" for i in range(1, 10)]
    for step in (1, 3, 5):  # in the first epoch, between two, in the second
        resumed, record = run(
            f"from_{step}",
            **STEPS | {"save_strategy": "no"},
            packed=packed,
            resume_from_checkpoint=str(whole / f"checkpoint-{step}"),
        )
        assert (resumed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes(), step
        assert record.progress.num_tokens == reference.progress.num_tokens
        losses = [[entry["loss"] for entry in r.loss_history if "loss" in entry] for r in (record, reference)]
        assert losses[0] == losses[1]


def test_every_checkpoint_has_its_own_run_record(run: Callable) -> None:
    folder, _ = run(num_train_epochs=1, save_strategy="steps", save_steps=2)
    record = json.loads((folder / "checkpoint-2" / "run.json").read_text())
    assert record["progress"]["global_step"] == 2
    assert len(record["loss_history"]) == 2  # up to here, and no further
    assert not (folder / "checkpoint-2" / "training_args.bin").exists()


def test_resume_takes_the_latest_complete_checkpoint(run: Callable, tmp_path: Path) -> None:
    whole, reference = run("whole", **STEPS)
    run("stopped", **STEPS)
    stopped = tmp_path / "stopped"
    for step in (8, 9):  # killed while it wrote step 8: everything but the state, which is written last
        (stopped / f"checkpoint-{step}" / "trainer_state.json").unlink()
    (stopped / "model.safetensors").unlink()
    _, record = run("stopped", **STEPS, resume_from_checkpoint=True)
    assert (stopped / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert record.progress.global_step == reference.progress.global_step == 9


def test_resume_without_a_checkpoint_starts_from_the_beginning(run: Callable) -> None:
    _, record = run(num_train_epochs=1, resume_from_checkpoint=True)
    assert record.progress.global_step == 3


def test_resuming_from_weights_with_other_names_is_an_error_and_not_a_warning(run: Callable) -> None:
    folder, _ = run("whole", num_train_epochs=1, save_strategy="steps", save_steps=1)
    weights: dict[str, Any] = load_file(folder / "checkpoint-1" / "trainable.safetensors")
    weights["language_model.model.norm.weight"] = weights.pop("model.language_model.norm.weight")
    save_file(weights, folder / "checkpoint-1" / "trainable.safetensors")
    with pytest.raises(RuntimeError, match=r"1 missing \(for example \['model.language_model.norm.weight'\]\)"):
        run("again", num_train_epochs=1, resume_from_checkpoint=str(folder / "checkpoint-1"))


def test_stage_1_resumes_bitwise_too(run: Callable) -> None:
    align = {"chat_template": "plain", "language_model": None}
    whole, _ = run("whole", **align, **STEPS)
    resumed, _ = run("resumed", **align, **STEPS, resume_from_checkpoint=str(whole / "checkpoint-4"))
    a, b = load_file(whole / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 2e-3}, r"learning_rate: 0.001 -> 0.002"),
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"max_length": 100}, "max_length: None -> 100"),
        ({"per_device_train_batch_size": 2}, "examples per optimizer step: 8 -> 4"),
        ({"language_model": {"mode": "full", "weight_decay": 0.1}}, "language_model: .*weight_decay"),
        ({"num_train_epochs": 4}, "num_train_epochs: 3.0 -> 4.0"),
    ],
)
def test_going_on_with_another_recipe_is_refused_by_the_name_of_the_field(
    run: Callable, changes: dict[str, Any], message: str
) -> None:
    whole, _ = run("whole", **{**STEPS, "save_steps": 4})
    with pytest.raises(RecipeError, match=f"was made with another recipe.*{message}"):
        run("again", **{**STEPS, **changes}, resume_from_checkpoint=str(whole / "checkpoint-4"))


def test_paths_and_logging_may_change_and_so_may_who_computes_a_step(run: Callable) -> None:
    whole, _ = run("whole", **STEPS)
    resumed, _ = run(
        "again",
        **{**STEPS, "save_steps": 5, "logging_steps": 2, "dataloader_num_workers": 1},
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        resume_from_checkpoint=str(whole / "checkpoint-4"),
    )
    a, b = load_file(whole / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert max((a[name] - b[name]).abs().max() for name in a) < 1e-5


def test_going_on_with_other_records_is_refused(run: Callable, data_file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "train.json"
    source = {"name": "toys", "path": str(copy), "image_root": str(data_file.parent)}
    copy.write_text(data_file.read_text())
    whole, _ = run("whole", **STEPS, train_data=[source])
    copy.write_text(data_file.read_text().replace("What is 3?", "What was 3?"))
    with pytest.raises(RecipeError, match="the data are not what the checkpoint 'checkpoint-4' was trained on"):
        run("again", **STEPS, train_data=[source], resume_from_checkpoint=str(whole / "checkpoint-4"))


def test_a_folder_that_is_no_checkpoint_is_refused(run: Callable, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is no complete checkpoint"):
        run(resume_from_checkpoint=str(tmp_path))
