"""From YAML and flags to a checked recipe."""

from pathlib import Path
from typing import Any

import pytest

from transformers_llava.training.recipe.recipe import Recipe, describe_fields, known_fields
from transformers_llava.training.recipe.recipe_error import RecipeError
from transformers_llava.training.recipe.recipe_file import apply_flags, read_recipe


RECIPES = Path(__file__).parents[3] / "src/transformers_llava/recipes"
PACKAGED = sorted(RECIPES.rglob("*.yaml"))
MINIMAL: dict[str, Any] = {
    "model_name_or_path": "somewhere",
    "train_data": [{"name": "mine", "path": "mine.json"}],
    "multi_modal_projector": {"mode": "full"},
    "use_cpu": True,
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rat": 1e-3}, "Did you mean `learning_rate`"),
        ({"zzz": 1}, "llava recipes fields"),
        ({"vision_tower": {"mod": "full"}}, "`mod` is no field of a vision_tower.*Did you mean `mode`"),
        ({"packing": True}, "`packing` is no field.*Did you mean `packed`"),
        ({"learning_rate": "fast"}, "`learning_rate` takes float, but 'fast'"),
        ({"multi_modal_projector": {"mode": "full", "learning_rate": "1e-3x"}}, "multi_modal_projector.learning_rate"),
        ({"max_steps": True}, "`max_steps` takes int, but True"),
        ({"multi_modal_projector": None}, "every component is frozen"),
        ({"train_data": None}, "`train_data` is missing"),
        ({"model_name_or_path": None}, "nothing says where the model comes from"),
        ({"projector_type": "linear"}, "brings its own architecture.*projector_type"),
        ({"vision_tower": {"mode": "frozen", "weight_decay": 0.1}}, "frozen component learns nothing"),
        ({"eval_strategy": "steps"}, "a recipe has no evaluation data"),
        ({"eval_on_start": True}, "a recipe has no evaluation data"),
        ({"load_best_model_at_end": True}, "a recipe has no evaluation data"),
        ({"optim": "adamm"}, "refused by transformers or TRL.*adamm"),
        ({"save_strategy": "sometimes"}, "refused by transformers or TRL.*sometimes"),
        ({"per_device_train_batch_size": 0}, "`per_device_train_batch_size: 0` is below 1"),
        ({"gradient_accumulation_steps": -1}, "`gradient_accumulation_steps: -1` is below 1"),
        ({"learning_rate": -1e-3}, "`learning_rate: -0.001` is below 0"),
        ({"learning_rate": float("nan")}, "`learning_rate: nan` is below 0"),
        ({"learning_rate": float("inf")}, "`learning_rate` takes float, but inf"),
        ({"seed": "x"}, "`seed` takes int, but 'x'"),
        ({"seed": 2**32}, "`seed: 4294967296` has to be below 4294967296"),
        ({"adam_beta1": 1.0}, "`adam_beta1: 1.0` has to be below 1"),
        ({"save_total_limit": 0}, "`save_total_limit: 0` is below 1"),
        ({"save_steps": -3}, "`save_steps: -3` is below 0"),
        ({"logging_steps": -1}, "`logging_steps: -1` is below 0"),
        ({"output_dir": ""}, "`output_dir` is empty"),
        ({"chat_template": 5}, "`chat_template` takes str, but 5 was given. Write it in quotes"),
        ({"language_model": {"mode": "lora", "lora_rank": 0}}, "`lora_rank: 0` is below 1"),
        ({"language_model": {"mode": "lora", "lora_dropout": 1.0}}, "lora_dropout=1.0 is no share"),
        ({"image_grid_pinpoints": ["wide", "high"]}, "are no canvases"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    values = {**MINIMAL, "output_dir": str(tmp_path), **changes}
    with pytest.raises(ValueError, match=f"(?s){message}"):
        Recipe.from_dict({name: value for name, value in values.items() if value is not None})


def test_flags_lie_over_the_recipe_and_are_read_as_yaml() -> None:
    recipe = {"seed": 0, "language_model": {"mode": "full"}, "train_data": [{"name": "a"}]}
    flags = ["--seed", "1", "--language_model.learning_rate", "2e-5", "--vision_feature_layer", "-2", "--strict"]
    flags += ["--train_data", "[{name: b, path: c.json}]", "--output_dir=here", "--resume"]
    assert apply_flags(recipe, flags) == {
        "seed": 1,
        "language_model": {"mode": "full", "learning_rate": 2e-5},
        "vision_feature_layer": -2,
        "strict": True,
        "train_data": [{"name": "b", "path": "c.json"}],
        "output_dir": "here",
        "resume_from_checkpoint": True,
    }
    assert recipe["language_model"] == {"mode": "full"}  # the recipe itself is left as it was


def test_a_flag_goes_into_the_short_form_of_a_component() -> None:
    flags = ["--language_model.learning_rate", "2e-5", "--vision_tower.mode", "full"]
    assert apply_flags({"language_model": "full", "vision_tower": None}, flags) == {
        "language_model": {"mode": "full", "learning_rate": 2e-5},
        "vision_tower": {"mode": "full"},
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\xff", "cannot be read: .* is not YAML"),
        (b"a: [1", "cannot be read: .* is not YAML"),
        (b"- a\n- b\n", "cannot be read: .* where a mapping"),
        (b"# nothing\n", "holds no fields"),
        (b"a: &a [1, 2]\nb: " + b"[" * 70 + b"]" * 70, "cannot be read: .* nested more than"),
        (b"day: 2026-13-45\n", "cannot be read: .* is not YAML"),
        (None, "does not exist"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_by_its_name(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match=f"(?s)recipe.*{message}"):
        read_recipe(path)


def test_what_yaml_makes_of_no_is_no(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("save_strategy: no\neval_strategy: no\n")
    sft = Recipe.from_dict({**MINIMAL, "output_dir": str(tmp_path), **read_recipe(path)}).sft
    assert (sft.save_strategy, sft.eval_strategy) == ("no", "no")


def test_numbers_are_read_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("a: 1e-3\nb: 2.5e-5\nc: -2\nd: 3\ne: 1.0\nf: 5.23.0\n")
    assert read_recipe(path) == {"a": 1e-3, "b": 2.5e-5, "c": -2, "d": 3, "e": 1.0, "f": "5.23.0"}


def test_trl_prepares_nothing(tmp_path: Path) -> None:
    sft = Recipe.from_dict({**MINIMAL, "output_dir": str(tmp_path), "max_length": 2048}).sft
    assert (sft.max_length, sft.remove_unused_columns, sft.packing, sft.bf16) == (None, False, False, False)
    assert sft.dataset_kwargs == {"skip_prepare_dataset": True}


def test_the_resolved_recipe_has_every_field_once_and_no_token(tmp_path: Path) -> None:
    resolved = Recipe.from_dict({**MINIMAL, "output_dir": str(tmp_path), "hub_model_id": "a/b"}).to_dict()
    assert set(known_fields()) <= set(resolved)
    assert not {"hub_token", "push_to_hub_token"} & set(resolved)
    assert all(describe_fields().values())


def test_packaged_recipes_have_only_known_fields_and_a_header_that_can_be_pasted() -> None:
    assert PACKAGED
    for path in PACKAGED:
        assert set(read_recipe(path)) <= set(known_fields()), path.name
        header = [line for line in path.read_text().splitlines() if line.startswith("#")]
        name = path.relative_to(RECIPES).with_suffix("").as_posix()
        assert any(f"llava train --config {name}" in line for line in header), path.name
