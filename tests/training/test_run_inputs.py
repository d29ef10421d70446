"""What a run record says of where everything came from: enough for somebody else to do it again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transformers_llava.artifacts.digests.file_digests import weights_digest
from transformers_llava.artifacts.environment_variables import COMMAND_VARIABLE
from transformers_llava.artifacts.local_paths import LOCAL_PATHS_NAME, write_local_paths
from transformers_llava.artifacts.run_record.record_file import read_run_record
from transformers_llava.chat_templates import load_chat_template
from transformers_llava.data.mixture.config import MixtureConfig
from transformers_llava.data.mixture.mixture_file import read_mixture_file
from transformers_llava.training.recipe.configs import ModelConfig
from transformers_llava.training.recipe.recipe import Recipe
from transformers_llava.training.recipe.recipe_error import RecipeError
from transformers_llava.training.recipe.resolve import ResolvedRecipe, resolve_recipe
from transformers_llava.training.run_inputs import local_paths_of, previous_local_paths, published_mixture


def test_the_second_stage_tells_what_both_stages_were_made_of(
    run: Callable, parts: Path, data_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(COMMAND_VARIABLE, f"llava train --config tiny/1_align --output_dir {parts.parent / 'x'}")
    first, _ = run("first", max_steps=1)
    second, _ = run(
        "second",
        max_steps=1,
        language_model_name_or_path=None,
        vision_tower_name_or_path=None,
        model_name_or_path=str(first),
    )
    record, alone = (json.loads((folder / "run.json").read_text()) for folder in (second, first))
    (before,) = record["previous"]
    assert before == {name: value for name, value in alone.items() if name != "previous"}
    assert [(base["role"], base["name"]) for base in before["base_models"]] == [
        ("language_model", "language_model"),
        ("vision_tower", "vision_tower"),
    ]
    assert before["base_models"][0]["digest"] == weights_digest(parts / "language_model")
    (base,) = record["base_models"]
    assert (base["role"], base["origin"], base["digest"]) == ("checkpoint", "folder", weights_digest(first))
    assert record["command"] == "llava train --config tiny/1_align --output_dir x"
    assert record["environment"]["torch"].startswith("2.")
    assert record["mixture"]["sources"][0]["path"] == "toys/train.json"
    assert record["mixture_lock"] == json.loads((second / "mixture.lock.json").read_text())
    places = json.loads((second / LOCAL_PATHS_NAME).read_text())
    assert places["base_models"] == {"checkpoint": str(first)}
    assert places["sources"]["toys"]["path"] == str(data_file)
    assert places["previous"][0]["base_models"]["language_model"] == str(parts / "language_model")


def test_a_template_of_ones_own_is_kept_with_the_run(run: Callable, tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text(load_chat_template("vicuna_v1"))
    stage = read_run_record(run(max_steps=1, chat_template=str(tmp_path / "mine.jinja"))[0]).own
    assert stage.chat_template == load_chat_template("vicuna_v1")
    assert stage.configuration["chat_template"] == "mine.jinja"


def test_a_mixture_goes_through_its_file_unchanged(tmp_path: Path) -> None:
    sources: list[Any] = [
        {"name": "a", "path": "a.json", "weight": 0.5, "license": "MIT", "filters": {"max_rounds": 3}},
        {"name": "b", "path": "hf://datasets/o/n", "parts": [{"name": "p", "num_examples": 3, "license": "x"}]},
    ]
    sources[1]["parts"][0]["provenance"] = "human"
    config = MixtureConfig(sources, seed=4, row_order="content")
    (tmp_path / "mixture.yaml").write_text(json.dumps(config.to_dict()))  # JSON is YAML
    again = read_mixture_file(tmp_path / "mixture.yaml")
    assert again.sources[0].path == str(tmp_path / "a.json")
    again.sources[0].path = "a.json"
    assert again == config
    assert "image_root" not in config.to_dict()["sources"][0]


def test_a_revision_without_its_model_is_refused(run: Callable) -> None:
    with pytest.raises(RecipeError, match="`model_revision` is the commit of"):
        run(model_revision="v1")


def recipe_of(train_data: Any, start: str = "somewhere") -> ResolvedRecipe:
    shared = {"output_dir": "x", "multi_modal_projector": {"mode": "full"}}
    return resolve_recipe(Recipe.from_dict({**shared, "model_name_or_path": start, "train_data": train_data}))


def paths_of(recipe: ResolvedRecipe) -> dict[str, tuple[str, str | None]]:
    return {one.name: (one.path, one.image_root) for one in published_mixture(recipe).sources}


def test_every_recorded_path_stays_inside_and_stands_for_one_file_in_all_stages(tmp_path: Path) -> None:
    work = tmp_path / "john smith/work"
    for folder in (work, tmp_path / "shared", tmp_path / "first"):
        folder.mkdir(parents=True)
    sources = [
        {"name": "inside", "path": "a/train.json", "image_root": "../../shared/images"},
        {"name": "shared", "path": "../../shared/train.json", "image_root": ".."},
        {"name": "../odd name", "path": ".cache/x.json", "image_root": "."},
        {"name": "a", "path": str(tmp_path / "elsewhere/train.json")},
    ]
    (work / "mix.yaml").write_text(json.dumps({"sources": sources}))
    recipe = recipe_of(str(work / "mix.yaml"))
    assert paths_of(recipe) == {
        "inside": ("a/train.json", "inside/images"),
        "shared": ("shared/train.json", "shared/john smith"),
        "../odd name": ("odd_name/x.json", "odd_name/work"),
        "a": ("a/train_2.json", None),
    }
    assert paths_of(recipe) == paths_of(recipe)

    first = tmp_path / "first"
    before = [{"name": "toys", "path": str(tmp_path / "first.json"), "image_root": str(tmp_path / "images")}]
    stage = recipe_of(before)
    (first / "run.json").write_text(json.dumps({"mixture": published_mixture(stage).to_dict()}))
    write_local_paths(first, local_paths_of(stage))
    (tmp_path / "other").mkdir()
    now = [{"name": "toys", "path": str(tmp_path / "other/first.json"), "image_root": str(tmp_path / "images")}]
    second = recipe_of(now, start=str(first))
    assert paths_of(second) == {"toys": ("toys/first_2.json", "toys/images")}


def test_a_note_of_local_paths_that_came_with_a_download_is_not_believed(tmp_path: Path) -> None:
    note = {"sources": {"x": {"path": "/home/me/private.json"}}, "base_models": {}, "previous": []}
    own, fetched, snapshot = tmp_path / "own", tmp_path / "fetched", tmp_path / "snapshots" / ("0" * 40)
    for folder in (own, fetched, snapshot):
        (folder / LOCAL_PATHS_NAME).parent.mkdir(parents=True)
        (folder / LOCAL_PATHS_NAME).write_text(json.dumps(note))
    (fetched / ".cache/huggingface/download").mkdir()
    found = [
        len(previous_local_paths(ModelConfig(model_name_or_path=str(folder)))) for folder in (own, fetched, snapshot)
    ]
    assert found == [1, 0, 0]
