"""Two processes end with the weights of one, for every backend and stage; also when one of them sees only text."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

import tiny
from distributed.launching import run_machines, run_processes


pytestmark = pytest.mark.slow

STAGES: dict[str, dict[str, Any]] = {
    "align": {"stage": "align", "chat_template": "plain", "language_model": None},
    "instruct": {},
    "lora": {"language_model": {"mode": "lora", "lora_rank": 4, "lora_alpha": 8, "lora_dropout": 0.0}},
}
# Where ranks once parted: tower and projector frozen, but sharded, and a rank whose rows are text alone; a newline
# vector that is learnt and that no image uses.
PARTING = {
    "padded_text": {"multi_modal_projector": None, "packed": False},
    "newline": {"patch_merge_type": "spatial_unpad"},
}
BACKENDS = {
    "ddp": {"distributed_type": "MULTI_CPU", "is_sharded": False},
    "fsdp2": {"distributed_type": "FSDP", "is_sharded": True},
    "zero2": {"distributed_type": "DEEPSPEED", "zero_stage": 2, "is_sharded": False},
    "zero3": {"distributed_type": "DEEPSPEED", "zero_stage": 3, "is_sharded": True},
}
STEPS = {"optim": "sgd", "learning_rate": 1.0, "lr_scheduler_type": "constant", "packed": True, "max_steps": 4}


@pytest.fixture(scope="module")
def cases(fields: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Every stage on mixed data, and on data in which a rank often sees only text."""
    folder = tmp_path_factory.mktemp("text")
    records = []
    for number in range(24):
        record: dict[str, Any] = {"id": f"r{number}"}
        if number % 8 == 0:  # one image for two ranks, in most steps
            tiny.make_image(seed=number).save(folder / f"{number}.png")
            record["image"] = f"{number}.png"
        question = ("<image>\n" if number % 8 == 0 else "") + f"What is {number}?"
        record["conversations"] = [{"from": "human", "value": question}, {"from": "gpt", "value": "red " * 3}]
        records.append(record)
    (folder / "text.json").write_text(json.dumps(records))
    text = {"train_data": [{"name": "text", "path": str(folder / "text.json")}]}
    found = {name: {**fields, **STEPS, **changes} for name, changes in STAGES.items()}
    found |= {f"{name}_text": {**found[name], **text} for name in STAGES}
    found |= {name: {**fields, **STEPS, **text, **changes} for name, changes in PARTING.items()}
    return {name: {key: value for key, value in case.items() if value is not None} for name, case in found.items()}


@pytest.fixture(scope="module")
def reference(cases: dict, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, torch.Tensor]]:
    """Each case in one process: four packs a step, where two processes take two each."""
    from transformers_llava.training.recipe.recipe import Recipe
    from transformers_llava.training.sft import train

    weights = {}
    for name, case in cases.items():
        folder = tmp_path_factory.mktemp("one") / name
        alone = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "output_dir": str(folder)}
        train(Recipe.from_dict({**case, **alone}))
        weights[name] = load_file(folder / "model.safetensors")
    return weights


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest, cases: dict, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """All cases in one pair of processes."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param.startswith("zero") and shutil.which("g++") is None:
        pytest.skip("DeepSpeed's CPU backend is compiled when it is first used, and there is no g++")
    spread = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    all_cases = {name: {**case, **spread} for name, case in cases.items()}
    adam = {**all_cases["instruct"], "optim": "adamw_torch", "learning_rate": 1e-3, "lr_scheduler_type": "cosine"}
    all_cases["saving"] = {**adam, "save_strategy": "steps", "save_steps": 2}
    all_cases["resumed"] = {**adam, "resume_from_checkpoint": str(folder / "saving" / "checkpoint-2")}
    if request.param == "fsdp2":
        all_cases["uncured"] = {**all_cases["instruct"], "without_the_cure_of_the_head": True}
    run_processes(
        folder, [{**case, "output_dir": str(folder / name)} for name, case in all_cases.items()], request.param
    )
    return request.param, folder


@pytest.mark.parametrize("name", [*STAGES, *(f"{name}_text" for name in STAGES), *PARTING])
def test_two_processes_end_with_the_weights_of_one(backend: tuple[str, Path], reference: dict, name: str) -> None:
    expected = BACKENDS[backend[0]]
    folder = backend[1] / name
    facts = json.loads((folder / "run.json").read_text())["hardware"]["backend"]
    assert facts["distributed_type"] == expected["distributed_type"]
    assert facts.get("zero_stage") == expected.get("zero_stage")
    assert facts["num_processes"] == 2
    assert facts["num_sharded"] == (facts["num_tensors"] if expected["is_sharded"] else 0)
    weights = load_file(folder / "model.safetensors")
    assert weights.keys() == reference[name].keys()
    differences = {key: (weights[key] - tensor).abs().max().item() for key, tensor in reference[name].items()}
    assert max(differences.values()) < 1e-6, max(differences, key=lambda key: differences[key])


def test_resuming_is_bitwise(backend: tuple[str, Path]) -> None:
    whole, resumed = (load_file(backend[1] / name / "model.safetensors") for name in ("saving", "resumed"))
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
    record = json.loads((backend[1] / "resumed" / "run.json").read_text())
    assert record["progress"]["global_step"] == 4


@pytest.mark.parametrize("backend", ["fsdp2"], indirect=True)  # the others give the head no unit of its own
def test_without_its_cure_the_head_would_follow_one_process(backend: tuple[str, Path], reference: dict) -> None:
    weights = load_file(backend[1] / "uncured" / "model.safetensors")
    differences = {key: (weights[key] - tensor).abs().max().item() for key, tensor in reference["instruct"].items()}
    assert max(differences, key=lambda key: differences[key]) == "lm_head.weight"
    assert differences["lm_head.weight"] > 1e-3


def test_what_was_saved_loads_as_one_model(backend: tuple[str, Path]) -> None:
    model = AutoModelForImageTextToText.from_pretrained(backend[1] / "instruct")
    saved = load_file(backend[1] / "instruct" / "model.safetensors")
    for name, parameter in model.state_dict().items():
        if name in saved:
            assert torch.equal(parameter, saved[name]), name


def test_the_stages_really_train(reference: dict, cases: dict, run_once: Callable) -> None:
    start = run_once({**cases["instruct"], "learning_rate": 0.0, "max_steps": 1})
    moved = {key: (reference["instruct"][key] - tensor).abs().max().item() for key, tensor in start.items()}
    assert moved["lm_head.weight"] > 1e-3
    assert max(value for key, value in moved.items() if "multi_modal_projector" in key) > 1e-4


@pytest.fixture(scope="module")
def machines(cases: dict, data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two machines: once as they should be, then with folders, checkpoints and data that are not shared."""
    folder = tmp_path_factory.mktemp("machines")
    spread = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    case = {**cases["instruct"], **spread, "save_strategy": "steps", "save_steps": 2}
    checkpoint = folder / "own_0" / "checkpoint-2"  # of machine 0 alone
    records = json.loads(data_file.read_text())
    for rank, kept in ((0, records), (1, records[:-1])):
        (folder / f"data_{rank}.json").write_text(json.dumps(kept))
    data = {"name": "toys", "path": str(folder / "data_RANK.json"), "image_root": str(data_file.parent)}
    run_machines(
        folder,
        [
            {**case, "output_dir": str(folder / "out")},
            {**case, "output_dir": str(folder / "own_RANK"), "refusal": str(folder / "folders")},
            {
                **case,
                "output_dir": str(folder / "again"),
                "resume_from_checkpoint": str(folder / "resumed_RANK" / "checkpoint-2"),
                "copy_for_rank_0": [str(folder / "out" / "checkpoint-2"), str(folder / "resumed_0" / "checkpoint-2")],
                "refusal": str(folder / "checkpoints"),
            },
            {**case, "output_dir": str(folder / "data"), "train_data": [data], "refusal": str(folder / "data")},
        ],
    )
    assert not checkpoint.exists()
    return folder


def test_two_machines_end_with_the_weights_of_one_process(machines: Path, reference: dict) -> None:
    weights = load_file(machines / "out" / "model.safetensors")
    assert max((weights[key] - tensor).abs().max() for key, tensor in reference["instruct"].items()) < 1e-6
    assert json.loads((machines / "out" / "run.json").read_text())["hardware"]["backend"]["num_processes"] == 2
    assert not list((machines / "out").glob(".seen-by-all-*"))


@pytest.mark.parametrize(
    ("what", "messages"),
    [
        ("folders", [r"`output_dir` .* is not one folder for all machines: .* not seen by process 1"] * 2),
        (
            "checkpoints",
            [
                "process 1 on .* stopped, so all processes do. .* is no complete checkpoint",
                "is no complete checkpoint",
            ],
        ),
        ("data", [r"differ in the data they read.* 24 examples.* for process 0 .*; 23 examples.* for process 1"] * 2),
    ],
)
def test_machines_that_would_part_are_refused_on_both_by_name(machines: Path, what: str, messages: list[str]) -> None:
    for rank, message in enumerate(messages):
        assert re.search(message, (machines / f"{what}_{rank}.txt").read_text())
