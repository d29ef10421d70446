"""`recipe/`: what ran, in files that run again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tests.hub.two_stages import shared_two_stages

from transformers_llava.artifacts.local_paths import LOCAL_PATHS_NAME
from transformers_llava.artifacts.run_record.record_file import read_checked_record
from transformers_llava.artifacts.run_record.recorded import RunRecordError
from transformers_llava.artifacts.run_record.run_stages import RunRecord
from transformers_llava.hub.publication.bundle import copy_own_parts
from transformers_llava.hub.publication.bundled_data import MissingPartError
from transformers_llava.hub.recipe_folder import recipe_texts, sorted_settings, stage_command, write_recipe_folder
from transformers_llava.training.recipe.recipe import Recipe


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_two_stages(tmp_path_factory.getbasetemp())


def test_a_stage_file_is_a_recipe_with_every_setting_that_was_in_force(checkpoint: Path) -> None:
    run = read_checked_record(checkpoint)
    texts = recipe_texts(run, lambda _: True)
    assert [stage.name for stage in run.stages] == ["1_align", "2_instruct"]
    values = yaml.safe_load(texts["2_instruct.yaml"])
    assert values["model_name_or_path"] == "output/1_align"
    assert yaml.safe_load(texts["1_align.yaml"])["vision_tower_name_or_path"] == "bases/vision_tower"
    again = Recipe.from_dict({**values, "output_dir": "x"}).to_dict()
    differs = {name for name, value in run.own.configuration.items() if again[name] != value}
    assert differs <= {
        "output_dir",
        "train_data",
        "model_name_or_path",
        "report_to",
        "disable_tqdm",
        "accelerator_config",
    }
    written, defaults = texts["2_instruct.yaml"].split("# Not written then")
    assert "learning_rate: 0.001" in written
    assert "adam_beta2: 0.999" in defaults
    assert "OMP_NUM_THREADS=1 llava train --config 2_instruct.yaml --accelerate_config cpu" in texts["commands.sh"]
    assert f"torch=={run.own.versions['torch']}" in texts["environment.txt"]


def test_settings_are_obeyed_left_out_or_refused_each_by_name(checkpoint: Path) -> None:
    values = json.loads((checkpoint / "run.json").read_text())
    values["configuration"] |= {
        "push_to_hub": True,
        "hub_model_id": "me/x",
        "report_to": ["wandb"],
        "deepspeed": "ds.json",
        "attn_implementation": "owner/kernel",
        "dataloader_num_workers": 10_000,
        "eval_strategy": "steps",
        "torch_compile_backend": "evil",
        "gradient_checkpointing_kwargs": {"context_fn": "os.system"},
        "language_model_name_or_path": "../../elsewhere",
        "weight_decay": {"a": 1},
        "brand_new": True,
    }
    values["recipe"] |= {"brand_new": True}
    values["command"] = "llava train --config x.yaml --accelerate_config=mine.yaml"
    run = RunRecord.from_dict(values)
    stage = run.stages[-1]
    settings = sorted_settings(stage)
    assert settings.refused.keys() == {
        *("attn_implementation", "dataloader_num_workers", "torch_compile_backend", "weight_decay"),
        "gradient_checkpointing_kwargs",
    }
    assert settings.left_out.keys() == {
        *("push_to_hub", "hub_model_id", "report_to", "deepspeed", "brand_new", "accelerate_config"),
    }
    values = yaml.safe_load(recipe_texts(run, lambda _: True)["2_instruct.yaml"])
    assert not values.keys() & {*settings.refused, *settings.left_out, "language_model_name_or_path", "eval_strategy"}
    assert values["learning_rate"] == 1e-3
    assert stage_command(stage)[1] == [
        *("train", "--config", "2_instruct.yaml", "--accelerate_config", "cpu"),
        *("--output_dir", "output/2_instruct"),
    ]


def test_a_packaged_accelerate_configuration_is_obeyed(checkpoint: Path) -> None:
    run = read_checked_record(checkpoint)
    for typed in ("--accelerate_config ddp", "--accelerate_config=ddp"):
        stage = replace(run.own, command=f"llava train {typed} --config x.yaml")
        assert "ddp" in stage_command(stage)[1]
    for typed in ("--accelerate_config ../accelerate_configs/ddp", "--accelerate_config recipe/x.yaml"):
        stage = replace(run.own, command=f"llava train {typed}")
        assert stage_command(stage)[1][3:5] == ["--accelerate_config", "cpu"]


def test_a_command_over_several_lines_stays_a_comment(checkpoint: Path) -> None:
    run = read_checked_record(checkpoint)
    command = "llava train --train_data '[{name: x,\n  path: y}]\r\n# z'\ntouch evil"
    base = replace(run.own.base_models[0], role="language_model", name="mine\ntouch evil")
    run = run.with_own(command=command, base_models=(base,))
    for line in recipe_texts(run, lambda _: True)["commands.sh"].splitlines():
        assert line.startswith(("#", "set -e", "cd ", "OMP_NUM_THREADS=1 llava train ")), line


def test_what_is_not_in_the_publication_is_said_at_the_top_of_the_mixture(checkpoint: Path) -> None:
    text = recipe_texts(read_checked_record(checkpoint), lambda _: False)["1_align.mixture.yaml"]
    assert "# Not in this publication" in text
    assert "#   data/toys/train.json" in text


def test_a_template_of_the_trainers_own_goes_along(checkpoint: Path) -> None:
    run = read_checked_record(checkpoint)
    run = replace(run, stages=(replace(run.stages[0], chat_template="{{ messages }}"), run.own))
    texts = recipe_texts(run, lambda _: True)
    assert texts["1_align.jinja"] == "{{ messages }}"
    assert yaml.safe_load(texts["1_align.yaml"])["chat_template"] == "1_align.jinja"
    assert yaml.safe_load(texts["2_instruct.yaml"])["chat_template"] == "vicuna_v1"


def test_a_source_without_images_needs_no_path_for_them(checkpoint: Path) -> None:
    held = {"data/toys/train.json", "."}
    text = recipe_texts(read_checked_record(checkpoint), held.__contains__)["1_align.mixture.yaml"]
    assert "image_root" not in yaml.safe_load(text)["sources"][0]


def test_own_parts_give_the_same_bytes_twice(checkpoint: Path, tmp_path: Path) -> None:
    run = read_checked_record(checkpoint)
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        copied = copy_own_parts(run, checkpoint, folder)
        write_recipe_folder(run, folder)
    names = {path.relative_to(second / "recipe").as_posix() for path in copied}
    assert {"data/toys/train.json", "data/toys/images.zip", "bases/vision_tower/model.safetensors"} <= names
    for path in sorted(first.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (second / path.relative_to(first)).read_bytes()


def test_parts_that_are_gone_are_named(checkpoint: Path, tmp_path: Path) -> None:
    run = read_checked_record(checkpoint)
    with pytest.raises(MissingPartError, match=r"notes the paths of 0 of its 2 stages"):
        copy_own_parts(run, tmp_path, tmp_path / "out")
    here = {"sources": {"toys": {"path": "/gone.json"}}, "base_models": {}}
    (tmp_path / LOCAL_PATHS_NAME).parent.mkdir(parents=True)
    (tmp_path / LOCAL_PATHS_NAME).write_text(json.dumps({**here, "previous": [here]}))
    with pytest.raises(MissingPartError, match=r"the data of source 'toys': '/gone.json' is not there any more"):
        copy_own_parts(run, tmp_path, tmp_path / "out")


def test_a_folder_that_no_run_of_ours_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunRecordError, match=r"has no run\.json"):
        read_checked_record(tmp_path)
    (tmp_path / "run.json").write_text('{"configuration": {"a": 1}}')
    with pytest.raises(RunRecordError, match="says nothing of base_models, mixture, environment"):
        read_checked_record(tmp_path)
