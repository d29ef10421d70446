"""Levels 3 and 4 fail for whatever is no agreement: NaN, other shapes and types, missing, extra and empty."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.hub.publications import whole_record

from transformers_llava.artifacts.run_record.portable_values import replace_non_finite
from transformers_llava.artifacts.run_record.record_file import read_checked_record, write_run_record
from transformers_llava.artifacts.run_record.recorded import RunRecordError
from transformers_llava.artifacts.run_record.run_stages import RunRecord, Stage
from transformers_llava.hub.verification.checks.retrained import check_retrained
from transformers_llava.hub.verification.checks.tensor_distance import weight_distance


RUN = whole_record()
WEIGHTS = {"embed": torch.arange(12.0).view(3, 4), "head": torch.ones(4)}
LOSSES = [3.0, 2.0, 1.0]


def write(folder: Path, tensors: dict[str, torch.Tensor], losses: list[Any] = LOSSES) -> Path:
    folder.mkdir(exist_ok=True)
    if tensors:
        save_file(tensors, folder / "model.safetensors")
    history = [{"step": step, "loss": loss} for step, loss in enumerate(losses)]
    (folder / "run.json").write_text(json.dumps({**RUN, "loss_history": history}))
    return folder


def retrained(first: Path, second: Path) -> Iterator[tuple[str, str, str, str]]:
    """As `verify` asks for it: without a record where there is none that can be read."""
    try:
        run = read_checked_record(first)
    except RunRecordError:
        run = None
    return check_retrained(first, run, second, "open_llava")


def levels(first: Path, second: Path) -> dict[tuple[str, str], str]:
    return {(level, name): status for level, name, status, _ in retrained(first, second)}


def message(first: Path, second: Path) -> str:
    return next(text for _, name, _, text in retrained(first, second) if name == "first losses")


def changed(**tensors: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**WEIGHTS, **tensors}


NAN = changed(head=torch.tensor([1.0, 1.0, 1.0, math.nan]))
INFINITE = changed(head=torch.tensor([1.0, 1.0, 1.0, math.inf]))
PAIRS = {
    "other shape": (WEIGHTS, changed(embed=torch.arange(12.0).view(4, 3))),
    "more rows": (WEIGHTS, changed(embed=torch.arange(16.0).view(4, 4))),
    "other type": (WEIGHTS, changed(head=torch.ones(4, dtype=torch.bfloat16))),
    "NaN in one": (WEIGHTS, NAN),
    "NaN in both": (NAN, NAN),
    "infinity in one": (WEIGHTS, INFINITE),
    "infinity in both": (INFINITE, INFINITE),
    "missing": (WEIGHTS, {"embed": WEIGHTS["embed"]}),
    "extra": (WEIGHTS, changed(more=torch.ones(1))),
    "none in common": (WEIGHTS, {"other": torch.ones(1)}),
    "no weights": (WEIGHTS, {}),
    "no weights at all": ({}, {}),
    "from zero": ({"a": torch.zeros(3)}, {"a": torch.ones(3)}),
    "too large to square": ({"a": torch.tensor([1e200], dtype=torch.float64)}, {"a": torch.ones(1).double()}),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_no_tolerance_allows(tmp_path: Path, name: str) -> None:
    first, second = (write(tmp_path / str(number), tensors) for number, tensors in enumerate(PAIRS[name]))
    found = levels(first, second)
    assert found["L3", "retrained weights"] == "failed"
    assert found["L4", "retrained weights"] == "failed"
    distance = weight_distance(first, second)
    assert not distance.identical
    assert not distance.is_within(1e9)


def test_the_same_weights_are_identical_and_near_ones_within_tolerance(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", WEIGHTS), write(tmp_path / "b", WEIGHTS)
    assert levels(first, second) == {("L3", "retrained weights"): "ok"}
    near = write(tmp_path / "c", changed(head=WEIGHTS["head"] * (1 + 1e-6)))
    assert levels(first, near) == {
        ("L3", "retrained weights"): "failed",
        ("L4", "retrained weights"): "ok",
        ("L4", "first losses"): "ok",
    }


@pytest.mark.parametrize(
    "losses",
    [[3.0, math.nan, math.nan], [math.nan], [3.0, None, 1.0], ["nan", 2.0, 1.0], [3.0, 2.0], [], [3.0, 2.0, math.inf]],
    ids=str,
)
@pytest.mark.parametrize("is_published", [True, False])
def test_losses_that_are_no_numbers_or_too_few_fail(tmp_path: Path, losses: list[Any], is_published: bool) -> None:
    first = write(tmp_path / "a", WEIGHTS, losses if is_published else LOSSES)
    second = write(tmp_path / "b", changed(head=WEIGHTS["head"] * (1 + 1e-6)), LOSSES if is_published else losses)
    found = levels(first, second)
    assert (found["L4", "retrained weights"], found["L4", "first losses"]) == ("ok", "failed")
    if "nan" not in losses:  # a word is no loss, and so no record; else what is found is of the losses themselves
        assert "cannot be checked" not in message(first, second)
    both = (
        write(tmp_path / "a", WEIGHTS, losses),
        write(tmp_path / "b", changed(head=WEIGHTS["head"] * 1.00001), losses),
    )
    if losses != [3.0, 2.0]:
        assert levels(*both)["L4", "first losses"] == "failed"


@pytest.mark.parametrize("text", ["", "[]", "null", '{"loss_history": 5}', "[" * 100_000])
def test_a_retrained_record_of_any_form_is_no_exception(tmp_path: Path, text: str) -> None:
    first, second = write(tmp_path / "a", WEIGHTS), write(tmp_path / "b", changed(head=torch.ones(4) * 1.00001))
    (second / "run.json").write_text(text)
    assert levels(first, second)["L4", "first losses"] == "failed"


def test_a_loss_that_is_no_number_leaves_the_record_json(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    history = [{"step": 1, "loss": math.nan, "grad_norm": math.inf}, {"step": 2, "loss": 0.5}]
    write_run_record(RunRecord((Stage(stage="align", loss_history=history),)), tmp_path)
    text = (tmp_path / "run.json").read_text()
    values = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    noted = {"step": 1, "loss": None, "grad_norm": None, "not_finite": {"loss": "nan", "grad_norm": "inf"}}
    assert values["loss_history"] == [noted, {"step": 2, "loss": 0.5}]
    assert set(values["tensors"]) == {"embed", "head"}
    assert replace_non_finite({"a": [1.0, -math.inf], "b": (math.nan,)}) == {"a": [1.0, None], "b": [None]}


def test_frozen_weights_do_not_hide_how_far_the_trained_ones_are_apart(tmp_path: Path) -> None:
    """A projector of 20 million beside 7 billion frozen parameters could be wrong by a hundredth and pass."""
    frozen = {"frozen": torch.full((1000,), 100.0)}
    first = write(tmp_path / "a", {**frozen, "projector": torch.ones(4)})
    second = write(tmp_path / "b", {**frozen, "projector": torch.ones(4) * 1.01})
    assert levels(first, second)["L4", "retrained weights"] == "failed"
    assert weight_distance(first, second).relative == pytest.approx(0.01, rel=1e-3)
