"""Share saved tiny parts, a data file of 24 records, and one function that runs a stage on them in-process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPVisionModel, LlamaForCausalLM

import tiny
from transformers_llava.artifacts.run_record.run_stages import Stage
from transformers_llava.training.recipe.recipe import Recipe
from transformers_llava.training.sft import train


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`language_model/` with its tokenizer, `vision_tower/` with its image processor."""
    folder = tmp_path_factory.mktemp("parts")
    config = tiny.make_config()
    torch.manual_seed(0)
    LlamaForCausalLM(config.text_config).save_pretrained(folder / "language_model")
    tiny.make_tokenizer().save_pretrained(folder / "language_model")
    CLIPVisionModel(config.vision_config).save_pretrained(folder / "vision_tower")
    settings = {"crop_size": {"height": 28, "width": 28}, "size": {"shortest_edge": 28}, "do_center_crop": True}
    (folder / "vision_tower" / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="session")
def data_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LLaVA JSON: 24 records, every fourth without an image, of different lengths."""
    folder = tmp_path_factory.mktemp("data")
    records = []
    for i in range(24):
        record: dict[str, Any] = {"id": f"r{i}"}
        if i % 4:
            tiny.make_image(seed=i).save(folder / f"{i}.png")
            record["image"] = f"{i}.png"
        record["conversations"] = [
            {"from": "human", "value": ("<image>\n" if i % 4 else "") + f"What is {i}?"},
            {"from": "gpt", "value": "red blue " * (1 + i % 5)},
        ]
        records.append(record)
    path = folder / "train.json"
    path.write_text(json.dumps(records))
    return path


@pytest.fixture(scope="session")
def fields(parts: Path, data_file: Path) -> dict[str, Any]:
    """A recipe from parts: three steps of eight an epoch, projector and language model learn."""
    return {
        "stage": "instruct",
        "language_model_name_or_path": str(parts / "language_model"),
        "vision_tower_name_or_path": str(parts / "vision_tower"),
        "train_data": [{"name": "toys", "path": str(data_file)}],
        "chat_template": "vicuna_v1",
        "multi_modal_projector": {"mode": "full"},
        "language_model": {"mode": "full"},
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "num_train_epochs": 2,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "cosine",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "optim": "adamw_torch",
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 0,
    }


@pytest.fixture
def run(fields: dict[str, Any], tmp_path: Path) -> Callable[..., tuple[Path, Stage]]:
    """`run(learning_rate=2e-3, ...)` trains with those fields changed; returns the folder and the record."""

    def run(output_dir: str = "out", **changes: Any) -> tuple[Path, Stage]:
        values = {**fields, **changes, "output_dir": str(tmp_path / output_dir)}
        record = train(Recipe.from_dict({name: value for name, value in values.items() if value is not None}))
        return tmp_path / output_dir, record

    return run


@pytest.fixture
def run_once(tmp_path: Path) -> Callable[[dict[str, Any]], dict[str, torch.Tensor]]:
    """Trains a whole recipe and returns the weights."""

    def run_once(values: dict[str, Any]) -> dict[str, torch.Tensor]:
        train(Recipe.from_dict({**values, "output_dir": str(tmp_path / "once")}))
        return load_file(tmp_path / "once" / "model.safetensors")

    return run_once
