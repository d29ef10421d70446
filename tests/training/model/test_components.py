"""Tables, groups, precision and gradients of the components."""

from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file

import tiny
from transformers_llava.training.model.components import (
    apply_component_config,
    component_of,
    component_table,
    format_table,
    lora_config,
)
from transformers_llava.training.model.parameter_groups import build_parameter_groups
from transformers_llava.training.recipe.configs import ComponentConfig
from transformers_llava.training.recipe.recipe_error import RecipeError


ALIGN = {
    "vision_tower": ComponentConfig(),
    "multi_modal_projector": ComponentConfig("full", learning_rate=1e-3),
    "language_model": ComponentConfig(),
}


def test_every_parameter_belongs_to_one_component_also_inside_a_peft_model() -> None:
    tiled = {
        "image_aspect_ratio": "anyres",
        "patch_merge_type": "spatial_unpad",
        "image_grid_pinpoints": tiny.PINPOINTS,
    }
    found = {name: component_of(name) for name, _ in tiny.make_model(**tiled).named_parameters()}
    assert found["model.image_newline"] == "multi_modal_projector"
    assert found["model.multi_modal_projector.linear_1.bias"] == "multi_modal_projector"
    assert found["lm_head.weight"] == found["model.language_model.embed_tokens.weight"] == "language_model"
    name = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.default.weight"
    assert component_of(name) == "language_model"


@pytest.mark.parametrize("tied", [False, True])
def test_the_rows_of_the_table_sum_to_the_model(tied: bool) -> None:
    model = tiny.make_model(tie_word_embeddings=tied)
    apply_component_config(model, ALIGN)
    rows = component_table(model, ALIGN, 2e-5, 0.1)
    assert [row.component for row in rows] == list(ALIGN)
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in model.parameters())
    assert sum(row.trainable for row in rows) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert [row.learning_rate for row in rows] == [None, 1e-3, None]
    assert "6,272" in format_table(rows).splitlines()[2]


def test_what_is_frozen_may_be_half_precision_and_what_is_trainable_is_float32() -> None:
    model = tiny.make_model().to(torch.bfloat16)
    apply_component_config(model, ALIGN, frozen_dtype=torch.bfloat16)
    dtypes = {component_of(name): parameter.dtype for name, parameter in model.named_parameters()}
    assert dtypes == {
        "vision_tower": torch.bfloat16,
        "multi_modal_projector": torch.float32,
        "language_model": torch.bfloat16,
    }


def test_every_group_has_its_own_learning_rate_and_decay() -> None:
    components = {
        "vision_tower": ComponentConfig("full", learning_rate=2e-6),
        "multi_modal_projector": ComponentConfig("full", learning_rate=1e-3, weight_decay=0.0),
        "language_model": ComponentConfig("full"),
    }
    model = tiny.make_model()
    apply_component_config(model, components)
    decayed = {name for name, p in model.named_parameters() if p.dim() > 1}
    groups = build_parameter_groups(model.named_parameters(), components, decayed, 2e-5, 0.1)
    assert {group["name"]: (group["lr"], group["weight_decay"]) for group in groups} == {
        "vision_tower": (2e-6, 0.1),
        "vision_tower.no_decay": (2e-6, 0.0),
        "multi_modal_projector": (1e-3, 0.0),
        "language_model": (2e-5, 0.1),
        "language_model.no_decay": (2e-5, 0.0),
    }
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_learning_rates_of_all_groups_are_logged_and_followed(run: Callable) -> None:
    projector = {"mode": "full", "learning_rate": 5e-3}
    _, record = run(multi_modal_projector=projector, lr_scheduler_type="constant", num_train_epochs=1)
    first = record.loss_history[0]
    assert first["learning_rate/multi_modal_projector"] == 5e-3
    assert first["learning_rate/language_model"] == 1e-3
    still, _ = run("still", multi_modal_projector={"mode": "full", "learning_rate": 0.0}, num_train_epochs=1)
    start, _ = run("start", learning_rate=0.0, num_train_epochs=1)
    a, b = load_file(still / "model.safetensors"), load_file(start / "model.safetensors")
    changed = {component_of(name) for name in a if not torch.equal(a[name], b[name])}
    assert changed == {"language_model"}


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_a_frozen_tower_builds_no_graph_even_under_gradient_checkpointing(gradient_checkpointing: bool) -> None:
    model, processor = tiny.make_model(), tiny.make_processor()
    apply_component_config(model, ALIGN)
    model.train()
    if gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    seen = []
    model.model.vision_tower.register_forward_hook(lambda *a: seen.append(a[2].last_hidden_state.requires_grad))
    inputs = processor(images=tiny.make_image(), text="<image> a red ball", return_tensors="pt")
    loss = model(**inputs, labels=inputs["input_ids"]).loss
    loss.backward()
    assert seen == [False]
    assert all(p.grad is None for p in model.model.vision_tower.parameters())
    assert model.model.multi_modal_projector.linear_1.weight.grad.abs().sum() > 0


def test_gradient_checkpointing_gives_the_same_weights(run: Callable) -> None:
    a, _ = run("plain", num_train_epochs=1)
    b, _ = run("checkpointed", num_train_epochs=1, gradient_checkpointing=True)
    before, after = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_lora_targets_the_linear_layers_of_its_component_and_never_the_head() -> None:
    pytest.importorskip("peft")
    import re

    components = ALIGN | {"language_model": ComponentConfig("lora", lora_rank=4)}
    model = tiny.make_model()
    config = lora_config(model, components)
    targets = [name for name, _ in model.named_modules() if re.fullmatch(config.target_modules, name)]
    assert len(targets) == 2 * 7  # two layers: q, k, v, o, gate, up, down
    assert all(name.startswith("model.language_model.layers.") for name in targets)
    assert config.modules_to_save == ["multi_modal_projector"]


def test_contradicting_modes_are_refused() -> None:
    with pytest.raises(RecipeError, match="cannot be trained with `mode: lora`"):
        lora_config(tiny.make_model(), ALIGN | {"multi_modal_projector": ComponentConfig("lora")})
    with pytest.raises(RecipeError, match="a frozen component learns nothing"):
        ComponentConfig("frozen", learning_rate=1e-3)
    with pytest.raises(RecipeError, match="'ful' is not a way to train"):
        ComponentConfig("ful")
