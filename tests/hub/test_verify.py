"""Every kind of tampering is told apart by name; what is whole passes level by level."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from transformers_llava.hub.manifest import read_manifest, write_manifest
from transformers_llava.hub.staging import stage_publication
from transformers_llava.hub.verification import VerificationReport, verify

from .two_stages import shared_two_stages


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkpoint = shared_two_stages(tmp_path_factory.getbasetemp())
    folder = tmp_path_factory.mktemp("hub") / "whole"
    stage_publication(checkpoint, "me/tiny", folder, self_contained=True, allow_incomplete=True)
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy"


def failures(report: VerificationReport) -> dict[str, str]:
    found: dict[str, str] = {}
    for check in report.failed:
        name = f"{check.level} {check.name}"
        found[name] = f"{found[name]}; {check.message}" if name in found else check.message
    return found


def test_a_whole_publication_passes_and_says_what_was_not_looked_at(whole: Path) -> None:
    report = verify(whole, expected=read_manifest(whole).tag)
    assert report.passed, report
    assert [report.status(level) for level in ("L0", "L1", "L2", "L3", "L4")] == [
        "ok",
        "ok",
        "ok",
        "skipped",
        "skipped",
    ]
    text = str(report)
    assert "L2 OK: the data and base models that are here are the recorded ones" in text
    assert "24 examples in the recorded order" in text
    assert "L3 SKIPPED" in text


def flip_a_byte_of_a_weight(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


def add_a_tensor(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    save_file({**state, "extra": torch.ones(1)}, folder / "model.safetensors", metadata={"format": "pt"})


def change_a_record(folder: Path) -> None:
    path = folder / "recipe/data/toys/train.json"
    path.write_text(path.read_text().replace("red blue", "red blu", 1))


def change_a_setting(folder: Path) -> None:
    path = folder / "recipe/2_instruct.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.001", "learning_rate: 0.002"))


def change_a_seed(folder: Path) -> None:
    path = folder / "recipe/1_align.yaml"
    path.write_text(path.read_text().replace("seed: 42", "seed: 43"))


def change_a_licence(folder: Path) -> None:
    path = folder / "LICENSE.md"
    path.write_text(path.read_text().replace("CC-BY-4.0", "CC0-1.0"))


def change_the_card(folder: Path) -> None:
    path = folder / "README.md"
    path.write_text(path.read_text().replace("24", "240"))


def swap_a_base_model(folder: Path) -> None:
    bases = folder / "recipe/bases"
    shutil.copyfile(bases / "language_model/model.safetensors", bases / "vision_tower/model.safetensors")


def drop_a_file(folder: Path) -> None:
    (folder / "NOTICE").unlink()


def add_code(folder: Path) -> None:
    (folder / "modeling.py").write_text("import os\n")


TAMPERING: list[tuple[Callable[[Path], None], str, str]] = [
    (flip_a_byte_of_a_weight, "L1 tensors", "1 are not the recorded ones, such as "),
    (add_a_tensor, "L1 tensors", "extra"),
    (change_a_record, "L2 data of 1_align", "source 'toys': its messages and image bytes are not what they were"),
    (change_a_setting, "L1 recipe/2_instruct.yaml", "learning_rate: run.json says 0.001, the file says 0.002"),
    (change_a_seed, "L1 recipe/1_align.yaml", "seed: run.json says 42, the file says 43"),
    (change_a_licence, "L1 LICENSE.md", "CC0-1.0"),
    (change_the_card, "L1 README.md", "generated parts"),
    (swap_a_base_model, "L2 vision_tower of 1_align", "these are not the weights of vision_tower"),
    (drop_a_file, "L1 NOTICE", "it is not there"),
    (add_code, "L1 modeling.py", "the manifest does not list it"),
]


@pytest.mark.parametrize(("tamper", "where", "message"), TAMPERING, ids=[case[0].__name__ for case in TAMPERING])
def test_tampering_is_found_by_name(copy: Path, tamper: Callable, where: str, message: str) -> None:
    tamper(copy)
    report = verify(copy)
    assert not report.passed
    found = failures(report)
    assert any(message in text for name, text in found.items() if name == where), found


def test_a_base_revision_that_was_swapped_no_longer_follows_from_the_recipe(copy: Path) -> None:
    run = json.loads((copy / "run.json").read_text())
    base = run["previous"][0]["base_models"][0]
    base |= {"origin": "hub", "name": "me/other", "revision": "0" * 40}
    (copy / "run.json").write_text(json.dumps(run))
    found = failures(verify(copy))
    assert "language_model_revision: run.json says '0000" in found["L1 recipe/1_align.yaml"]


@pytest.mark.parametrize("tamper", [flip_a_byte_of_a_weight, add_code])
def test_a_manifest_written_anew_is_caught_by_the_digest_from_elsewhere(copy: Path, tamper: Callable) -> None:
    before = read_manifest(copy)
    tamper(copy)
    write_manifest(copy, layout=before.layout, repo_id=before.repo_id, incomplete=before.incomplete)
    assert verify(copy).passed  # consistent in itself: all that a folder alone can show
    report = verify(copy, expected=before.tag)
    assert list(failures(report)) == ["L0 expected digest"]
    assert before.tag in failures(report)["L0 expected digest"]


def test_a_card_may_be_edited_outside_its_generated_parts(copy: Path) -> None:
    with (copy / "README.md").open("a") as file:
        file.write("\nA person's own words.\n")
    assert verify(copy).passed


def test_data_that_lie_elsewhere_are_found_with_data_root(copy: Path, tmp_path: Path) -> None:
    shutil.move(copy / "recipe/data", tmp_path / "elsewhere")
    report = verify(copy)
    skipped = [check for check in report.checks if check.name == "data of 1_align"]
    assert [check.status for check in skipped] == ["skipped"]
    assert "train.json; name it with --data_root" in skipped[0].message


def test_retrained_weights_are_compared_across_layouts(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    checkpoint = shared_two_stages(tmp_path_factory.getbasetemp())
    assert json.loads((whole / "config.json").read_text())["model_type"] == "llava"
    report = verify(whole, retrained=checkpoint)
    assert report.status("L3") == "ok", report
    other = tmp_path_factory.mktemp("hub") / "other"
    shutil.copytree(checkpoint, other, ignore=shutil.ignore_patterns("checkpoint-*"))
    state = load_file(other / "model.safetensors")
    save_file({name: tensor * (1 + 1e-6) for name, tensor in state.items()}, other / "model.safetensors")
    run = json.loads((other / "run.json").read_text())
    run["versions"]["torch"] = "9.9"
    (other / "run.json").write_text(json.dumps(run))
    report = verify(whole, retrained=other)
    assert (report.status("L3"), report.status("L4"), report.passed) == ("failed", "ok", True)
    assert "torch was '2." in failures(report)["L3 retrained weights"]


def test_the_mixture_of_a_publication_reads_with_yaml_alone(whole: Path) -> None:
    values = yaml.safe_load((whole / "recipe/2_instruct.mixture.yaml").read_text())
    assert [source["name"] for source in values["sources"]] == ["toys"]
