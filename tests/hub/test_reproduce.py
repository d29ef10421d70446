"""A publication trained again from nothing but itself: identical bits, and a reason by name where they are not."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from transformers_llava.hub.checks import check_parts, check_retrained
from transformers_llava.hub.own_parts import copy_own_parts
from transformers_llava.hub.recipe_folder import write_recipe_folder
from transformers_llava.hub.reproducing import ReproductionError, reproduce
from transformers_llava.hub.stages import read_run

from .two_stages import shared_two_stages


@pytest.fixture(scope="module")
def publication(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights, run record and a self-contained recipe."""
    checkpoint = shared_two_stages(tmp_path_factory.getbasetemp())
    folder = tmp_path_factory.mktemp("hub") / "publication"
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("checkpoint-*", ".cache"))
    run = read_run(checkpoint)
    copy_own_parts(run, checkpoint, folder)
    shutil.copytree(checkpoint / "checkpoint-2", folder / "recipe/checkpoint-2")
    write_recipe_folder(run, folder)
    return folder


def level(folder: Path, retrained: Path) -> dict[str, tuple[str, str]]:
    return {
        (level, name): (status, text) for level, name, status, text in check_retrained(folder, retrained, "open_llava")
    }


def test_both_stages_train_again_to_the_same_bits(publication: Path, tmp_path: Path) -> None:
    retrained = reproduce(publication, tmp_path / "again")
    assert level(publication, retrained) == {
        ("L3", "retrained weights"): ("ok", "every tensor is identical, bit for bit")
    }


def test_the_end_of_the_run_replays_to_the_same_bits_from_its_checkpoint(publication: Path, tmp_path: Path) -> None:
    retrained = reproduce(publication, tmp_path / "again", replay=True)
    assert not (tmp_path / "again/recipe/output/1_align.log").exists()
    assert level(publication, retrained)["L3", "retrained weights"][0] == "ok"


def test_another_seed_is_told_by_name_and_is_out_of_tolerance(publication: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(publication, changed)
    for path in changed.glob("recipe/?_*.yaml"):
        if "mixture" not in path.name:
            values = yaml.safe_load(path.read_text())
            path.write_text(yaml.safe_dump({**values, "seed": 7}))
    found = level(publication, reproduce(changed, tmp_path / "again"))
    assert found["L3", "retrained weights"][0] == found["L4", "retrained weights"][0] == "failed"
    assert "1_align: seed was 42 and is 7" in found["L4", "retrained weights"][1]


def test_what_is_not_there_is_named_before_anything_runs(publication: Path, tmp_path: Path) -> None:
    folder = tmp_path / "thin"
    shutil.copytree(publication, folder, ignore=shutil.ignore_patterns("data", "bases", "checkpoint-2"))
    with pytest.raises(
        ReproductionError, match=r"the data of 'toys' \(data/toys/train.json; --data_root\), the language_m"
    ):
        reproduce(folder, tmp_path / "a")
    with pytest.raises(ReproductionError, match="holds no checkpoint of the run"):
        reproduce(folder, tmp_path / "b", replay=True)
    with pytest.raises(ReproductionError, match="is not empty"):
        reproduce(folder, folder)


def test_a_changed_record_and_a_swapped_base_model_are_told_apart(publication: Path, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(publication, folder)
    assert [found for found in check_parts(folder, None, {}) if found[1] != "ok"] == []
    records = json.loads((folder / "recipe/data/toys/train.json").read_text())
    records[3]["conversations"][1]["value"] += "green"
    (folder / "recipe/data/toys/train.json").write_text(json.dumps(records))
    failed = [found for found in check_parts(folder, None, {}) if found[1] == "failed"]
    assert [name for name, _, _ in failed] == ["data of 1_align", "data of 2_instruct"]
    assert "source 'toys': its messages and image bytes are not what they were" in failed[0][2]
    shutil.copytree(publication / "recipe/data", folder / "recipe/data", dirs_exist_ok=True)
    tower = folder / "recipe/bases/vision_tower"
    shutil.copyfile(folder / "recipe/bases/language_model/model.safetensors", tower / "model.safetensors")
    failed = [found for found in check_parts(folder, None, {}) if found[1] == "failed"]
    assert [name for name, _, _ in failed] == ["vision_tower of 1_align"]
    assert "these are not the weights of vision_tower" in failed[0][2]
