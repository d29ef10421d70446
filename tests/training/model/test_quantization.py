"""A language model in four bits: it trains, only what should learn changes, and the base is saved as it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import tiny
from transformers_llava.training.model.quantization import quantize_language_model
from transformers_llava.training.recipe.configs import ComponentConfig
from transformers_llava.training.recipe.recipe_error import RecipeError
from transformers_llava.training.trainer import LlavaTrainer


bitsandbytes = pytest.importorskip("bitsandbytes")

FROZEN = {"language_model": {"mode": "frozen", "quantization": "nf4"}, "chat_template": "plain"}
QLORA = {
    "language_model": {"mode": "lora", "lora_rank": 4, "lora_alpha": 8, "lora_dropout": 0.0, "quantization": "nf4"}
}
STEPS = {"num_train_epochs": 3, "learning_rate": 1e-2, "lr_scheduler_type": "constant"}


def test_only_the_layers_of_the_language_model_are_quantised() -> None:
    model = tiny.make_model().requires_grad_(False)
    config = ComponentConfig(quantization="nf4")
    assert quantize_language_model(model, config, torch.bfloat16) == 14
    kinds = {name: type(module) for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    four_bit = {name for name, kind in kinds.items() if kind is bitsandbytes.nn.Linear4bit}
    assert all(name.startswith("model.language_model.layers.") for name in four_bit)
    assert all(name in four_bit for name in kinds if name.startswith("model.language_model.layers."))
    weight = model.model.language_model.layers[0].mlp.up_proj.weight
    assert weight.dtype == torch.uint8
    assert weight.numel() == 96 * 64 // 2


@pytest.mark.parametrize("changes", [FROZEN, QLORA])
@pytest.mark.parametrize("bf16", [False, True])
def test_it_trains_and_what_is_frozen_stays_as_the_base_has_it(
    run: Callable, changes: dict[str, Any], bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []
    original = LlavaTrainer.training_step

    def step(self: LlavaTrainer, *args, **kwargs):
        seen.append({str(p.dtype) for n, p in self.model.named_parameters() if "language_model.layers" in n})
        return original(self, *args, **kwargs)

    start, _ = run("start", **changes, num_train_epochs=1, learning_rate=0.0)
    monkeypatch.setattr(LlavaTrainer, "training_step", step)
    after, record = run("after", **changes, **STEPS, bf16=bf16)
    assert "torch.uint8" in seen[0]
    losses = [entry["loss"] for entry in record.loss_history if "loss" in entry]
    assert losses[-1] < losses[0] - 0.1
    old, new = load_file(start / "model.safetensors"), load_file(after / "model.safetensors")
    assert {name: tensor.dtype for name, tensor in old.items()} == {name: tensor.dtype for name, tensor in new.items()}
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    projector = {name for name in old if "multi_modal_projector" in name}
    linear = {name for name in old if ".language_model.layers." in name and "_proj." in name}
    assert changed == (projector | linear if changes is QLORA else projector)


def test_frozen_parts_of_a_bf16_run_are_saved_bit_for_bit(run: Callable, parts: Path) -> None:
    folder, _ = run(chat_template="plain", language_model=None, bf16=True, num_train_epochs=1)
    saved = load_file(folder / "model.safetensors")
    base = load_file(parts / "language_model" / "model.safetensors")
    assert torch.equal(saved["lm_head.weight"], base["lm_head.weight"])
    norm = "layers.0.input_layernorm.weight"
    assert torch.equal(saved[f"model.language_model.{norm}"], base[f"model.{norm}"])
    assert saved["model.language_model.layers.0.mlp.up_proj.weight"].dtype == torch.float32


def test_resuming_a_quantised_run_is_bitwise(run: Callable) -> None:
    steps = {"save_strategy": "steps", "save_steps": 2, "num_train_epochs": 1}
    whole, _ = run("whole", **QLORA, **steps)
    resumed, _ = run("resumed", **QLORA, **steps, resume_from_checkpoint=str(whole / "checkpoint-2"))
    assert (whole / "model.safetensors").read_bytes() == (resumed / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"language_model": {"mode": "full", "quantization": "nf4"}}, "four-bit weights take no gradient"),
        ({"language_model": {"quantization": "int3"}}, "quantization='int3' is not known"),
    ],
)
def test_what_cannot_be_is_refused(run: Callable, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        run(**changes)
