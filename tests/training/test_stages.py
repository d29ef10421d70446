"""What is trainable in which stage, and that everything else stays bit for bit what it was."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

from transformers_llava.training.model.components import component_of


FROM_PARTS = {"language_model_name_or_path": None, "vision_tower_name_or_path": None}
ALIGN = {"stage": "align", "chat_template": "plain", "language_model": None}


def changed_components(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    assert before
    return {component_of(name) for name in before if not torch.equal(before[name], after[name])}


def test_stage_1_changes_the_projector_alone_and_stage_2_never_the_tower(run: Callable, parts: Path) -> None:
    aligned, record = run("align", **ALIGN, num_train_epochs=1)
    tower = AutoModel.from_pretrained(parts / "vision_tower").state_dict()
    language_model = AutoModelForCausalLM.from_pretrained(parts / "language_model").state_dict()
    before = load_file(aligned / "model.safetensors")
    towers = {name.removeprefix("model.vision_tower."): t for name, t in before.items() if "vision_tower" in name}
    assert towers
    assert all(torch.equal(tensor, tower[name]) for name, tensor in towers.items())
    texts = {n.replace("model.language_model.", "model."): t for n, t in before.items() if "language_model" in n}
    assert texts.keys() | {"lm_head.weight"} == language_model.keys()
    assert all(torch.equal(tensor, language_model[name]) for name, tensor in texts.items())
    assert torch.equal(before["lm_head.weight"], language_model["lm_head.weight"])

    again, _ = run("align2", **ALIGN, num_train_epochs=1, learning_rate=0.0)
    assert changed_components(load_file(again / "model.safetensors"), before) == {"multi_modal_projector"}

    instructed, record = run("instruct", **FROM_PARTS, model_name_or_path=str(aligned), num_train_epochs=1)
    after = load_file(instructed / "model.safetensors")
    assert changed_components(before, after) == {"multi_modal_projector", "language_model"}
    assert record.stage == "instruct"


def test_the_saved_folder_loads_with_auto_classes_and_holds_no_place_of_this_machine(run: Callable) -> None:
    folder, _ = run(num_train_epochs=1)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    assert processor.image_token_id == model.config.image_token_id == model.config.text_config.vocab_size
    assert "ASSISTANT" in processor.chat_template
    assert sorted(path.name for path in folder.iterdir()) == [
        ".cache",  # what neither git nor the Hub's client uploads
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "metrics.jsonl",
        "mixture.lock.json",
        "mixture.md",
        "model.safetensors",
        "processor_config.json",
        "run.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert sorted(path.name for path in folder.rglob(".cache/**/*")) == [".gitignore", "huggingface", "places.json"]
    for path in folder.glob("*.json"):
        assert str(folder.parents[1]) not in path.read_text(), path.name
    assert '"use_cache": false' not in (folder / "config.json").read_text()


def test_packed_and_padded_runs_end_with_the_same_weights(run: Callable) -> None:
    padded, _ = run("padded", optim="sgd", learning_rate=0.5)
    packed, _ = run("packed", optim="sgd", learning_rate=0.5, packed=True)
    before, after = load_file(padded / "model.safetensors"), load_file(packed / "model.safetensors")
    start, _ = run("start", learning_rate=0.0, num_train_epochs=1)
    moved = max((before[n] - t).abs().max() for n, t in load_file(start / "model.safetensors").items())
    assert moved > 1e-2
    assert max((before[name] - after[name]).abs().max() for name in before) < 1e-6


def test_accumulation_does_not_change_the_step(run: Callable) -> None:
    one, first = run("one", optim="sgd", per_device_train_batch_size=8, gradient_accumulation_steps=1)
    four, second = run("four", optim="sgd", per_device_train_batch_size=2, gradient_accumulation_steps=4)
    a, b = load_file(one / "model.safetensors"), load_file(four / "model.safetensors")
    assert max((a[name] - b[name]).abs().max() for name in a) < 1e-6
    losses = [[entry["loss"] for entry in r.loss_history if "loss" in entry] for r in (first, second)]
    torch.testing.assert_close(*map(torch.tensor, losses))


def test_label_smoothing_reads_every_label_once(run: Callable) -> None:
    records = [run(f"{factor}", label_smoothing_factor=factor, num_train_epochs=1)[1] for factor in (0.0, 1e-7)]
    losses, metrics = ([[e[k] for e in r.loss_history if "loss" in e] for r in records] for k in ("loss", "entropy"))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-5)


@pytest.mark.parametrize("num_examples", [17, 20])
def test_the_last_step_of_an_epoch_takes_what_is_left(run: Callable, data_file: Path, num_examples: int) -> None:
    source = {"name": "toys", "path": str(data_file), "num_examples": num_examples}
    runs = {}
    for packed, micro, accumulation in ((True, 8, 1), (True, 1, 8), (False, 1, 8), (False, 4, 2)):
        runs[packed, micro] = run(
            f"{packed}_{micro}",
            train_data=[source],
            optim="sgd",
            packed=packed,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=accumulation,
        )
    reference, record = runs.pop((True, 8))
    assert record.progress.global_step == 6  # two epochs of two whole steps and what is left
    weights = load_file(reference / "model.safetensors")
    for folder, other in runs.values():
        assert other.progress.global_step == 6
        assert all(
            torch.allclose(t, weights[n], atol=1e-6) for n, t in load_file(folder / "model.safetensors").items()
        )


def test_a_step_of_text_alone_trains_and_leaves_the_projector_where_it_was(run: Callable, data_file: Path) -> None:
    text_only = data_file.parent / "text.json"
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    text_only.write_text(json.dumps([{"id": "t", "conversations": turns}]))
    sources = [{"name": "text", "path": str(text_only), "weight": 8}]
    before, _ = run("before", **ALIGN, learning_rate=0.0, num_train_epochs=1, train_data=sources)
    after, record = run("after", **ALIGN, optim="sgd", learning_rate=1.0, num_train_epochs=1, train_data=sources)
    assert [entry for entry in record.loss_history if "loss" in entry]
    assert changed_components(load_file(before / "model.safetensors"), load_file(after / "model.safetensors")) == set()


def test_lora_changes_only_the_linear_layers_of_the_language_model_and_the_projector(run: Callable) -> None:
    before, _ = run("before", learning_rate=0.0, num_train_epochs=1)
    adapted = {"language_model": {"mode": "lora", "lora_rank": 4, "lora_alpha": 8, "lora_dropout": 0.0}}
    after, record = run("after", **adapted, learning_rate=1e-2)
    old, new = load_file(before / "model.safetensors"), load_file(after / "model.safetensors")
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    linear = {n for n in old if "language_model" in n and n.endswith("proj.weight")}
    assert changed == linear | {name for name in old if "multi_modal_projector" in name}
    assert (after / "adapter" / "adapter_model.safetensors").is_file()
    rows = {row.component: row.to_dict() for row in record.components}
    assert 0 < rows["language_model"]["trainable"] < 10_000


def test_with_bf16_what_is_frozen_is_half_precision_and_what_is_trainable_keeps_float32(run: Callable) -> None:
    adapted = {"language_model": {"mode": "lora", "lora_rank": 4}}
    _, record = run(**adapted, bf16=True, num_train_epochs=1)
    rows = {row.component: row.to_dict()["dtype"] for row in record.components}
    assert rows == {
        "vision_tower": "bfloat16",
        "multi_modal_projector": "float32",
        "language_model": "bfloat16/float32",
    }
    losses = [entry["loss"] for entry in record.loss_history if "loss" in entry]
    assert losses[-1] < losses[0]
