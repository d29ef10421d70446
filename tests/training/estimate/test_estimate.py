"""What a dry run says, against what is counted: parameters, operations, kept bytes; for every packaged recipe."""

import re
import time
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from transformers_llava.cli import main as cli
from transformers_llava.packaged import header_of, list_packaged, packaged_file
from transformers_llava.training.estimate import memory
from transformers_llava.training.estimate.dry_run import Plan, format_plan, make_plan
from transformers_llava.training.estimate.flops import flops_per_example
from transformers_llava.training.estimate.recipe_shapes import DataShape
from transformers_llava.training.recipe.recipe import Recipe
from transformers_llava.training.recipe.recipe_file import read_recipe


REAL = [name for name in list_packaged("recipe") if not name.startswith("tiny/")]
SHAPE = DataShape(
    num_examples=8, text_tokens=24.0, label_tokens=10.0, image_share=1.0, image_tokens=576, tiles=1, origin=""
)


def planned(name: str, **changes) -> Plan:
    values = read_recipe(packaged_file("recipe", name)) | {"bf16": False, "use_cpu": True} | changes
    values.setdefault("train_data", "none")
    num_gpus = gpus_of(name)[0]
    backend = "single_gpu" if num_gpus == 1 else "fsdp2" if values["language_model"]["mode"] == "full" else "ddp"
    return make_plan(Recipe.from_dict(values), backend=backend, num_gpus=num_gpus)


def gpus_of(name: str) -> tuple[int, int]:
    """How many GPUs of how many GB the header asks for."""
    header = " ".join(" ".join(header_of(packaged_file("recipe", name))).split())
    found = re.search(r"Hardware: (\d+) GPUs? of (\d+) GB", header)
    assert found is not None, header
    return int(found[1]), int(found[2])


@pytest.mark.parametrize("name", REAL)
def test_every_packaged_recipe_is_planned_in_no_time_and_fits_its_hardware(name: str) -> None:
    started = time.process_time()  # of this process alone, however busy the machine is
    plan = planned(name)
    assert "hours at" in format_plan(plan)
    assert time.process_time() - started < 30
    header = " ".join(header_of(packaged_file("recipe", name)))
    assert f"--config {name}" in header
    num_gpus, memory_gb = gpus_of(name)
    assert (num_gpus, memory_gb) == ((1, 10) if name.endswith("_10gb") else (8, memory_gb))
    assert "xpect" in header
    assert plan.memory.total < 0.94 * memory_gb * 1e9, format_plan(plan)
    args = plan.recipe.sft
    assert plan.global_batch == (256 if plan.recipe.stage == "align" else 128)
    per, accumulation = args.per_device_train_batch_size, args.gradient_accumulation_steps
    assert f"{per} x {accumulation} x {num_gpus} GPU" in header


@pytest.mark.parametrize(
    ("name", "component", "parameters"),
    [
        ("llava-v1.5/7b/1_align", "language_model", 6_738_415_616),  # Llama 2 7B
        ("llava-v1.5/13b/1_align", "language_model", 13_015_864_320),  # Llama 2 13B
        ("modern/siglip2-qwen2.5-7b/1_align", "language_model", 7_615_616_512),  # Qwen2.5 7B
        ("llava-v1.5/7b/1_align", "multi_modal_projector", 20_979_712),  # mm_projector.bin of the release
        ("llava-v1.5/13b/1_align", "multi_modal_projector", 31_467_520),
    ],
)
def test_parameters_are_the_published_ones(name: str, component: str, parameters: int) -> None:
    model = planned(name).model
    parts = {
        "language_model": [model.model.language_model, model.lm_head],
        "multi_modal_projector": [model.model.multi_modal_projector],
    }
    assert sum(p.numel() for part in parts[component] for p in part.parameters()) == parameters


def test_steps_are_those_of_the_original() -> None:
    assert planned("llava-v1.5/7b/1_align").num_steps == 2181
    assert planned("llava-v1.5/7b/2_instruct").num_steps == 5198


@pytest.mark.parametrize(
    "modes",
    [
        {"vision_tower": "frozen", "multi_modal_projector": "full", "language_model": "frozen"},
        {"vision_tower": "frozen", "multi_modal_projector": "full", "language_model": "full"},
        {"vision_tower": "full", "multi_modal_projector": "full", "language_model": "full"},
    ],
)
def test_operations_are_those_that_torch_counts(modes: dict[str, str]) -> None:
    model = planned("llava-v1.5/7b/1_align").model
    for name, parameter in model.named_parameters():
        component = "language_model" if "lm_head" in name else name.split(".")[1]
        parameter.requires_grad_(modes[component] == "full")
    length = int(SHAPE.tokens)
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        pixels = torch.empty(1, 3, 336, 336)
        features = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]
        if modes["vision_tower"] == "frozen":
            features = features.detach()
        embeddings = torch.cat([model.model.multi_modal_projector(features[:, 1:]), torch.empty(1, 24, 4096)], dim=1)
        mask = torch.zeros(1, 1, length, length)  # ready made: nothing can be read from meta tensors
        states = model.model.language_model(inputs_embeds=embeddings, attention_mask=mask, use_cache=False)[0]
        model.lm_head(states[:, -10:]).sum().backward()
    flops = flops_per_example(model, modes, SHAPE, checkpointed=0.0)
    square = 4096 * length**2 * 32 * 2 * 3  # torch counts the half of attention that the causal mask leaves out
    assert flops.useful + square == pytest.approx(counter.get_total_flops(), rel=0.02)


@pytest.mark.parametrize("name", ["llava-v1.5/7b/1_align", "modern/siglip2-qwen2.5-7b/1_align"])
def test_operations_of_the_tower_are_those_of_the_layers_that_it_has(name: str) -> None:
    model = planned(name).model
    size = model.config.vision_config.image_size
    with FlopCounterMode(display=False) as counter, torch.device("meta"), torch.no_grad():
        model.model.vision_tower(torch.empty(1, 3, size, size))
    modes = {"vision_tower": "frozen", "multi_modal_projector": "full", "language_model": "frozen"}
    tower = flops_per_example(model, modes, SHAPE, checkpointed=0.0).tower
    assert tower == pytest.approx(counter.get_total_flops(), rel=0.005)  # one token of 577 is left out


@pytest.mark.parametrize("mode", ["full", "frozen"])
def test_kept_bytes_of_a_layer_are_those_of_autograd(mode: str) -> None:
    config = LlamaConfig(hidden_size=512, intermediate_size=1376, num_attention_heads=4, num_hidden_layers=1)
    config._attn_implementation = "sdpa"
    layer = LlamaDecoderLayer(config, 0).to(torch.bfloat16).requires_grad_(mode == "full")
    weights = {p.untyped_storage().data_ptr() for p in layer.parameters()}
    num_tokens, kept = 256, {}
    positions = tuple(torch.zeros(1, num_tokens, 128, dtype=torch.bfloat16) for _ in range(2))
    states = torch.randn(1, num_tokens, 512, dtype=torch.bfloat16, requires_grad=True)

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        layer(states, position_embeddings=positions)
    hidden, intermediate = memory._KEPT[mode]
    estimate = (hidden * 512 + intermediate * 1376) * num_tokens
    assert estimate == pytest.approx(sum(kept.values()), rel=0.2)


def test_stage_1_and_qlora_of_7b_fit_in_10_gb_in_four_bits() -> None:
    small = {"per_device_train_batch_size": 4, "gradient_checkpointing": True}
    four_bits = {"language_model": {"mode": "frozen", "quantization": "nf4"}}
    assert planned("llava-v1.5/7b/1_align", **small, **four_bits).memory.total < 10e9
    assert planned("llava-v1.5/7b/1_align", **small).memory.total > 15e9
    assert planned("llava-v1.5/7b/2_instruct_qlora").memory.total < 10e9


def test_checkpointing_and_sharding_change_what_they_should() -> None:
    plain = planned("llava-v1.5/7b/2_instruct")
    checkpointed = planned("llava-v1.5/7b/2_instruct", gradient_checkpointing=True)
    assert checkpointed.memory.activations < plain.memory.activations / 5
    assert checkpointed.flops.computed / plain.flops.computed == pytest.approx(1.32, abs=0.03)
    whole = make_plan(plain.recipe, backend="ddp", num_gpus=8)
    assert whole.memory.optimizer == 8 * plain.memory.optimizer
    assert "do not fit" in format_plan(whole)


def test_the_command_prints_the_page_and_starts_nothing(capsys: pytest.CaptureFixture) -> None:
    flags = ["--dry_run", "--num_processes", "4", "--gradient_accumulation_steps", "4"]
    assert cli.main(["train", "--config", "llava-v1.5/7b/2_instruct", *flags]) == 0
    page = capsys.readouterr().out
    assert "5,198 of 128 examples on 4 GPU(s), fsdp2" in page
    assert "6,738,415,616" in page


def test_a_model_of_unknown_shape_is_refused_by_name(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    flags = ["--dry_run", "--model_name_or_path", str(tmp_path / "mine")]
    assert cli.main(["train", "--config", "llava-v1.5/7b/2_instruct", *flags]) != 0
    assert "the shape of" in capsys.readouterr().err
