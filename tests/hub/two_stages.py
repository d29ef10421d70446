"""Train a tiny LLaVA in two stages through `llava train`, as a user would, to publish, verify and reproduce."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from filelock import FileLock
from transformers import CLIPVisionModel, LlamaForCausalLM

import tiny
from transformers_llava.cli.main import main


_SHARED: dict[str, Any] = {
    "chat_template": "vicuna_v1",
    "multi_modal_projector": {"mode": "full"},
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "max_steps": 3,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "cosine",
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "optim": "adamw_torch",
    "gradient_checkpointing": False,
    "dataloader_pin_memory": False,
    "disable_tqdm": True,
}


def train_two_stages(folder: Path, **changes: Any) -> Path:
    """Parts, data and both stages below `folder`; returns the second stage's checkpoint."""
    _write_parts(folder / "parts")
    _write_data(folder / "data")
    source = {
        "name": "toys",
        "path": str(folder / "data/train.json"),
        "image_root": str(folder / "data/images"),
        "license": "CC-BY-4.0",
        "provenance": "human",
    }
    align = {
        **_SHARED,
        "stage": "align",
        "language_model_name_or_path": str(folder / "parts/language_model"),
        "vision_tower_name_or_path": str(folder / "parts/vision_tower"),
        "train_data": [source],
    }
    instruct = {
        **_SHARED,
        "stage": "instruct",
        "language_model": {"mode": "full"},
        "model_name_or_path": str(folder / "align"),
        "save_strategy": "steps",
        "save_steps": 2,
        "save_total_limit": 2,
        **changes,
    }
    train(align, folder / "align")
    # Typed over several lines, with all that a shell would act on, as the demo and people do.
    fields = ",\n  ".join(f"{name}: {value}" for name, value in source.items())
    typed = f'[{{{fields}}}]\n# it\'s "several" lines; $(touch evil) `touch evil`\n# touch evil'
    return train(instruct, folder / "instruct", "--train_data", typed)


def train(recipe: dict[str, Any], output: Path, *flags: str) -> Path:
    """`llava train`, which trains in a process of its own; the command itself has no need of one more."""
    file = output.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(recipe))
    command = ["train", "--config", str(file), "--accelerate_config", "cpu", "--output_dir", str(output), *flags]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        assert main(command) == 0
    return output


def _write_parts(folder: Path) -> None:
    config = tiny.make_config()
    torch.manual_seed(0)
    LlamaForCausalLM(config.text_config).save_pretrained(folder / "language_model")
    tiny.make_tokenizer().save_pretrained(folder / "language_model")
    CLIPVisionModel(config.vision_config).save_pretrained(folder / "vision_tower")
    settings = {"crop_size": {"height": 28, "width": 28}, "size": {"shortest_edge": 28}, "do_center_crop": True}
    (folder / "vision_tower" / "preprocessor_config.json").write_text(json.dumps(settings))


def _write_data(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    records = []
    for i in range(24):
        record: dict[str, Any] = {"id": f"r{i}"}
        if i % 4:
            tiny.make_image(seed=i).save(folder / "images" / f"{i}.png")
            record["image"] = f"{i}.png"
        question = ("<image>\n" if i % 4 else "") + f"What is {i}?"
        answer = "red blue " * (1 + i % 5)
        record["conversations"] = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        records.append(record)
    (folder / "train.json").write_text(json.dumps(records))


def shared_two_stages(base: Path) -> Path:
    """The same, trained once for all test processes of a session; `base` is `tmp_path_factory.getbasetemp()`."""
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "two_stages"
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "instruct/run.json").is_file():
            train_two_stages(folder)
    return folder / "instruct"
