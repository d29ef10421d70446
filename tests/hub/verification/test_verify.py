"""Every kind of tampering is told apart by name; what is whole passes level by level."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tests.hub.two_stages import shared_two_stages

from transformers_llava.hub.publication.manifest import read_manifest, write_manifest
from transformers_llava.hub.publication.stage import stage_publication
from transformers_llava.hub.verification.verification_report import VerificationReport
from transformers_llava.hub.verification.verify import verify


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


def change_a_license(folder: Path) -> None:
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
    (change_a_record, "L1 recipe/data/toys/train.json", "it has "),
    (change_a_setting, "L1 recipe/2_instruct.yaml", "learning_rate: run.json says 0.001, the file says 0.002"),
    (change_a_seed, "L1 recipe/1_align.yaml", "seed: run.json says 42, the file says 43"),
    (change_a_license, "L1 LICENSE.md", "CC0-1.0"),
    (change_the_card, "L1 README.md", "generated parts"),
    (swap_a_base_model, "L1 recipe/bases/vision_tower/model.safetensors", "it has "),
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


def write_manifest_anew(folder: Path) -> str:
    """The manifest over whatever lies there now; returns the tag of the one before."""
    before = read_manifest(folder)
    write_manifest(folder, layout=before.layout, repo_id=before.repo_id, incomplete=before.incomplete)
    return before.tag


def exchange_a_whole_tensor(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    name = next(name for name in state if "multi_modal_projector" in name)
    save_file({**state, name: state[name] + 1}, folder / "model.safetensors", metadata={"format": "pt"})


def change_a_filled_up_row(folder: Path) -> None:
    """One that the built-in layout has beyond the run's."""
    state = load_file(folder / "model.safetensors")
    state["language_model.lm_head.weight"][-1] += 1
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def change_a_layer_that_is_not_read(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["vision_tower.vision_model.encoder.layers.2.mlp.fc1.weight"][0] += 1
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


CONSISTENT = [
    (flip_a_byte_of_a_weight, "L1 weights of run.json", "1 tensors are not what the run has saved"),
    (exchange_a_whole_tensor, "L1 weights of run.json", "model.multi_modal_projector."),
    (change_a_filled_up_row, "L1 weights of run.json", "lm_head.weight"),
    (change_a_layer_that_is_not_read, "L1 weights of run.json", "layers.2.mlp.fc1.weight"),
    (add_a_tensor, "L1 weights of run.json", "extra"),
    (change_a_record, "L2 data of 1_align", "source 'toys': its messages and image bytes are not what they were"),
    (swap_a_base_model, "L2 vision_tower of 1_align", "these are not the weights of vision_tower"),
]


@pytest.mark.parametrize(("tamper", "where", "message"), CONSISTENT, ids=[case[0].__name__ for case in CONSISTENT])
def test_a_manifest_written_anew_does_not_hide_what_the_run_contradicts(
    copy: Path, tamper: Callable, where: str, message: str
) -> None:
    tamper(copy)
    tag = write_manifest_anew(copy)
    report = verify(copy)
    assert not report.passed
    assert message in failures(report)[where], failures(report)
    assert "L0 expected digest" in failures(verify(copy, expected=tag))


def test_what_only_the_manifest_covers_is_said_and_caught_by_the_digest_from_elsewhere(copy: Path) -> None:
    add_code(copy)
    tag = write_manifest_anew(copy)
    report = verify(copy)
    assert report.passed  # consistent in itself: all that a folder alone can show
    said = [check for check in report.checks if check.name == "files that follow from nothing"]
    assert [check.status for check in said] == ["skipped"]
    assert "modeling.py" in said[0].message
    report = verify(copy, expected=tag)
    assert list(failures(report)) == ["L0 expected digest"]
    assert tag in failures(report)["L0 expected digest"]


def test_an_older_record_without_digests_of_tensors_is_skipped_with_its_reason(copy: Path) -> None:
    run = json.loads((copy / "run.json").read_text())
    del run["tensors"]
    (copy / "run.json").write_text(json.dumps(run))
    write_manifest_anew(copy)
    report = verify(copy)
    assert report.passed, report
    said = {check.name: check for check in report.checks}["weights of run.json"]
    assert said.status == "skipped"
    assert "written by an older version" in said.message


def test_the_files_of_an_open_llava_publication_are_those_that_the_run_saved(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    checkpoint, folder = shared_two_stages(tmp_path_factory.getbasetemp()), tmp_path / "open"
    stage_publication(checkpoint, "me/tiny", folder, layout="open_llava", allow_incomplete=True)
    assert verify(folder).passed
    for is_old in (False, True):
        run = json.loads((folder / "run.json").read_text())
        if is_old:
            run["tensors"] = {}
            (folder / "run.json").write_text(json.dumps(run))
            write_manifest_anew(folder)
            shutil.copyfile(checkpoint / "model.safetensors", folder / "model.safetensors")
            write_manifest_anew(folder)
            assert verify(folder).passed
        flip_a_byte_of_a_weight(folder)
        write_manifest_anew(folder)
        found = failures(verify(folder))
        assert set(found) == {"L1 weights of run.json"}
        assert ("model.safetensors was saved with sha256" if is_old else "1 tensors are not") in str(found)


def test_a_card_may_be_edited_outside_its_generated_parts(copy: Path) -> None:
    with (copy / "README.md").open("a") as file:
        file.write("\nA user's own words.\n")
    assert verify(copy).passed


def test_data_that_lie_elsewhere_are_found_with_data_root(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    checkpoint, folder = shared_two_stages(tmp_path_factory.getbasetemp()), tmp_path / "thin"
    stage_publication(checkpoint, "me/tiny", folder, allow_incomplete=True)
    report = verify(folder)
    assert report.passed
    said = {check.name: (check.status, check.message) for check in report.checks if check.level == "L2"}
    assert said["data of 1_align"][0] == "skipped"
    assert "train.json; name it with --data_root" in said["data of 1_align"][1]
    assert said["language_model of 1_align"][0] == "skipped"
    shutil.copytree(checkpoint.parent / "data", tmp_path / "mine/toys")
    roles = {role: str(checkpoint.parent / "parts" / role) for role in ("language_model", "vision_tower")}
    report = verify(folder, data_root=tmp_path / "mine", bases=roles)
    assert {check.status for check in report.checks if check.level == "L2"} == {"ok"}, report
    (tmp_path / "mine/toys/images/1.png").write_bytes((tmp_path / "mine/toys/images/2.png").read_bytes())
    assert "not what they were" in failures(verify(folder, data_root=tmp_path / "mine"))["L2 data of 1_align"]


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
