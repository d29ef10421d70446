"""A streamed run trains, counts what it leaves out, and resumes to the same bits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transformers_llava.training.recipe.recipe_error import RecipeError


STREAM = {"streaming": True, "streaming_window": 2, "max_steps": 5, "packed": True}  # three steps a pass


@pytest.mark.parametrize("packed", [False, True])
def test_resuming_a_stream_is_bitwise(run: Callable, packed: bool) -> None:
    steps = {**STREAM, "packed": packed}
    whole, reference = run("whole", **steps, save_strategy="steps", save_steps=1)
    assert reference.progress.global_step == 5
    for step in (2, 4):
        resumed, _ = run(f"from_{step}", **steps, resume_from_checkpoint=str(whole / f"checkpoint-{step}"))
        assert (resumed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes(), step


def test_accumulation_and_workers_do_not_change_the_losses(run: Callable) -> None:
    losses = []
    for micro, accumulation, workers in ((8, 1, 0), (2, 4, 2)):
        _, record = run(
            f"{micro}",
            **STREAM,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=accumulation,
            dataloader_num_workers=workers,
        )
        losses.append([entry["loss"] for entry in record.loss_history if "loss" in entry])
    assert len(losses[0]) == 5
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_what_is_left_out_is_counted_once_and_stands_in_a_file(run: Callable, data_file: Path, tmp_path: Path) -> None:
    records = json.loads(data_file.read_text())
    records[0]["conversations"][1]["value"] = ""
    records[1]["image"] = "nowhere.png"
    (tmp_path / "train.json").write_text(json.dumps(records))
    source = {"name": "toys", "path": str(tmp_path / "train.json"), "image_root": str(data_file.parent)}
    folder, record = run(**{**STREAM, "max_steps": 7}, train_data=[source])  # two passes and a bit
    assert record.data.to_dict()["dropped"] == {"empty_answer": 1, "missing_image": 1}
    lines = [json.loads(line) for line in (folder / "rejections.jsonl").read_text().splitlines()]
    assert {line["record"] for line in lines} == {"toys/r0", "toys/r1"}
    assert json.loads((folder / "run.json").read_text())["data"]["dropped"] == record.data.to_dict()["dropped"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_steps": -1}, "Set `max_steps`"),
        ({"streaming_window": 0}, "a window of 0 steps"),
        ({"train_data": [{"name": "x", "path": "none.json", "weight": 2.0}]}, "asks for weight"),
    ],
)
def test_a_stream_that_cannot_run_says_why(run: Callable, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        run(**{**STREAM, **changes})
