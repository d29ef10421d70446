"""What a run record says of where everything came from: enough for somebody else to do it again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transformers_llava.chat_templates import load_chat_template
from transformers_llava.conversion.origins import weights_digest
from transformers_llava.data.mixture import MixtureConfig
from transformers_llava.data.mixture_file import read_mixture_file
from transformers_llava.training.command import COMMAND_VARIABLE
from transformers_llava.training.configs import RecipeError
from transformers_llava.training.origins import PLACES_NAME
from transformers_llava.training.run_record import read_run_record


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
    record = read_run_record(second)
    (before,) = record["previous"]
    assert before == {name: value for name, value in read_run_record(first).items() if name != "previous"}
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
    places = json.loads((second / PLACES_NAME).read_text())
    assert places["base_models"] == {"checkpoint": str(first)}
    assert places["sources"]["toys"]["path"] == str(data_file)
    assert places["previous"][0]["base_models"]["language_model"] == str(parts / "language_model")


def test_a_template_of_ones_own_is_kept_with_the_run(run: Callable, tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text(load_chat_template("vicuna_v1"))
    record = read_run_record(run(max_steps=1, chat_template=str(tmp_path / "mine.jinja"))[0])
    assert record["chat_template"] == load_chat_template("vicuna_v1")
    assert record["configuration"]["chat_template"] == "mine.jinja"


def test_a_mixture_goes_through_its_file_unchanged(tmp_path: Path) -> None:
    sources: list[Any] = [
        {"name": "a", "path": "a.json", "weight": 0.5, "licence": "MIT", "filters": {"max_rounds": 3}},
        {"name": "b", "path": "hf://datasets/o/n", "parts": [{"name": "p", "num_examples": 3, "licence": "x"}]},
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
