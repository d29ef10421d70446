"""Short runs of the original trainer, done again: its order, learning rates, losses and final weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from transformers_llava import OpenLlavaForConditionalGeneration, OpenLlavaProcessor
from transformers_llava.training.recipe.recipe import Recipe
from transformers_llava.training.sft import train
from transformers_llava.training.trainer import LlavaTrainer


NO_TOWER = "model.vision_tower."


class Recorded:
    """One recorded run: what it was given, and what came of it."""

    def __init__(self, golden: Path, name: str) -> None:
        self.golden, self.name = golden, name
        self.data = json.loads((golden / "expected" / name / "training_run.json").read_text())
        self.steps = self.data["steps"]
        initial = golden / "expected" / name / "training_run_initial.safetensors"
        from safetensors.torch import load_file

        self.initial = load_file(initial) if initial.is_file() else {}

    def weights(self, *parts: str) -> dict[str, torch.Tensor]:
        return torch.load(self.golden.joinpath("checkpoints", *parts), weights_only=True)


def ours(name: str) -> str:
    """A name of the original's as ours."""
    name = name.removeprefix("base_model.model.")
    for theirs, mine in (("0", "linear_1"), ("2", "linear_2")):
        name = name.replace(f"model.mm_projector.{theirs}.", f"model.multi_modal_projector.{mine}.")
    if name.startswith("model.") and "multi_modal_projector" not in name:
        name = "model.language_model." + name.removeprefix("model.")
    return name


@pytest.fixture
def start(golden: Path, tmp_path: Path):
    """A folder with the base model, the tower, and a projector."""

    def make(projector: dict[str, torch.Tensor]) -> Path:
        checkpoint = golden / "checkpoints" / "v1_5_llama"
        model = OpenLlavaForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
        base = torch.load(golden / "checkpoints" / "base_llm_llama" / "pytorch_model.bin", weights_only=True)
        vocab_size = model.config.text_config.vocab_size
        state = {
            ours(name): tensor[:vocab_size] if "embed" in name or "lm_head" in name else tensor
            for name, tensor in base.items()
        }
        state |= {ours(name): tensor for name, tensor in projector.items()}
        result = model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
        assert not result.unexpected_keys
        assert all(name.startswith(NO_TOWER) for name in result.missing_keys), result.missing_keys
        model.save_pretrained(tmp_path / "start")
        OpenLlavaProcessor.from_pretrained(checkpoint).save_pretrained(tmp_path / "start")
        return tmp_path / "start"

    return make


def replicate(
    recorded: Recorded, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any
) -> dict[str, torch.Tensor]:
    """Trains as recorded; checks order, rates and losses; returns the weights."""
    arguments = recorded.data["arguments"]
    seen: list[list[str]] = []
    original = LlavaTrainer.get_batch_samples

    def remember(self: LlavaTrainer, *args: Any, **kwargs: Any) -> Any:
        seen.append([name.removeprefix("run/") for name in self._records_of_step()])
        return original(self, *args, **kwargs)

    monkeypatch.setattr(LlavaTrainer, "get_batch_samples", remember)
    names = ("learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm")
    names += ("per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "seed")
    recipe = {
        "model_name_or_path": str(start),
        "output_dir": str(tmp_path / "out"),
        "train_data": [
            {
                "name": "run",
                "path": str(recorded.golden / recorded.data["data_file"]),
                "image_root": str(recorded.golden / "images"),
                "collapse_markers": True,
            }
        ],
        "max_length": arguments["model_max_length"],
        "replicate": "modality_length" if arguments["group_by_modality_length"] else "random",
        **{name: arguments[name] for name in names},
        "lr_scheduler_type": "cosine",
        "warmup_steps": arguments["warmup_ratio"],
        "optim": "adamw_torch",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "multi_modal_projector": {"mode": "full", "learning_rate": arguments["mm_projector_lr"]},
        **changes,
    }
    record = train(Recipe.from_dict(recipe))
    assert seen == [step["sample_ids"] for step in recorded.steps]
    logged = [entry for entry in record.loss_history if "loss" in entry]
    assert len(logged) == len(recorded.steps)
    for entry, step in zip(logged, recorded.steps, strict=True):
        rates = {value for key, value in entry.items() if key.startswith("learning_rate")}
        assert {round(rate, 12) for rate in rates} == {round(rate, 12) for rate in step["learning_rates_before_step"]}
        assert entry["loss"] == pytest.approx(step["loss"], abs=1e-4)
    model = OpenLlavaForConditionalGeneration.from_pretrained(tmp_path / "out", dtype=torch.float32)
    return model.state_dict()


def check(weights: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert expected
    for name, tensor in expected.items():
        difference = (weights[name] - tensor.float()).norm() / tensor.float().norm()
        assert difference < 1e-4, (name, float(difference))


def test_stage_1(golden: Path, start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = Recorded(golden, "pretrain_projector")
    weights = replicate(
        recorded, start(recorded.initial), tmp_path, monkeypatch, chat_template="plain", image_aspect_ratio="square"
    )
    trained = recorded.weights("pretrain_projector", "mm_projector.bin")
    check(weights, {ours(name): tensor for name, tensor in trained.items()})


def test_full_fine_tuning(golden: Path, start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = Recorded(golden, "v1_5_llama")
    folder = start(recorded.weights("pretrain_projector", "mm_projector.bin"))
    weights = replicate(
        recorded, folder, tmp_path, monkeypatch, chat_template="vicuna_v1", language_model={"mode": "full"}
    )
    trained = recorded.weights("v1_5_llama", "pytorch_model.bin")
    check(weights, {ours(name): tensor for name, tensor in trained.items() if "vision_tower" not in name})


def test_lora(golden: Path, start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = Recorded(golden, "v1_5_lora")
    arguments = recorded.data["arguments"]
    folder = start(recorded.weights("pretrain_projector", "mm_projector.bin"))
    original = LlavaTrainer.__init__

    def with_recorded_start(self: LlavaTrainer, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        parameters = dict(self.model.named_parameters())
        for name, tensor in recorded.initial.items():
            parameters["base_model.model." + ours(name)].data.copy_(tensor)

    monkeypatch.setattr(LlavaTrainer, "__init__", with_recorded_start)
    lora = {
        "mode": "lora",
        "lora_rank": arguments["lora_r"],
        "lora_alpha": arguments["lora_alpha"],
        "lora_dropout": arguments["lora_dropout"],
    }
    weights = replicate(recorded, folder, tmp_path, monkeypatch, chat_template="vicuna_v1", language_model=lora)
    adapter = recorded.weights("v1_5_lora", "adapter_model.bin")
    base = recorded.weights("base_llm_llama", "pytorch_model.bin")
    expected = {
        ours(name): tensor for name, tensor in recorded.weights("v1_5_lora", "non_lora_trainables.bin").items()
    }
    for name, down in adapter.items():
        if "lora_A" not in name:
            continue
        up = adapter[name.replace("lora_A", "lora_B")]
        target = name.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
        expected[ours(target)] = base[target].float() + arguments["lora_alpha"] / arguments["lora_r"] * up @ down
    check(weights, expected)


@pytest.mark.parametrize("name", ["h_cls_patch", "v1_5_llama"])  # safetensors and pickle, names of the original
def test_going_on_from_an_original_checkpoint_keeps_all_that_is_frozen(
    golden: Path, tmp_path: Path, name: str
) -> None:
    checkpoint = golden / "checkpoints" / name
    # In float32, because `dtype="auto"` casts the tower, which lies in a folder of its own, to the type of the rest.
    source = OpenLlavaForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).state_dict()
    data = {"name": "x", "path": str(golden / "data" / "pretrain.json"), "image_root": str(golden / "images")}
    recipe = {
        "model_name_or_path": str(checkpoint),
        "output_dir": str(tmp_path / "out"),
        "train_data": [data],
        "chat_template": "plain",
        "multi_modal_projector": {"mode": "full"},
        "num_train_epochs": 1,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 2,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": True,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
    }
    train(Recipe.from_dict(recipe))
    saved = OpenLlavaForConditionalGeneration.from_pretrained(tmp_path / "out", dtype=torch.float32).state_dict()
    changed = {key for key, tensor in source.items() if not torch.equal(tensor.float(), saved[key].float())}
    assert changed
    assert all("multi_modal_projector" in key for key in changed), sorted(changed)[:5]
