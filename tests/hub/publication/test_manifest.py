"""`manifest.json`: one digest over every file and tensor, which cannot be kept while something changes."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from transformers_llava.artifacts.digests.tensor_digests import combined_tensor_digest, tensor_digests
from transformers_llava.hub.publication.manifest import ManifestError, read_manifest, write_manifest
from transformers_llava.hub.verification.checks.tensor_distance import weight_distance


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_file(
        {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}, tmp_path / "model.safetensors"
    )
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe/1_align.yaml").write_text("seed: 0\n")
    (tmp_path / "README.md").write_text("edited by people")
    return tmp_path


def test_it_lists_everything_but_the_card_and_itself(folder: Path) -> None:
    written = write_manifest(folder, layout="open_llava", repo_id="me/it")
    assert set(written.files) == {"model.safetensors", "config.json", "recipe/1_align.yaml"}
    assert set(written.tensors) == {"a", "b"}
    assert read_manifest(folder) == written
    assert written.tag == "v-" + written.digest[:32]  # 128 bits: no other manifest can be found for it
    (folder / "README.md").write_text("edited again")
    assert write_manifest(folder, layout="open_llava", repo_id="me/it").digest == written.digest


@pytest.mark.parametrize(("change", "value"), [("size", 3), ("sha256", "0" * 64)])
def test_a_changed_entry_breaks_its_digest(folder: Path, change: str, value: object) -> None:
    write_manifest(folder, layout="open_llava", repo_id="me/it")
    values = json.loads((folder / "manifest.json").read_text())
    values["files"]["config.json"][change] = value
    (folder / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(ManifestError, match="contradicts itself"):
        read_manifest(folder)


def test_only_folders_of_git_and_the_client_at_the_top_are_left_out(folder: Path) -> None:
    for name in (".cache/huggingface/a", ".git/HEAD", ".cache/other", "recipe/.cache/huggingface/b"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    written = write_manifest(folder, layout="open_llava", repo_id="me/it")
    assert {name for name in written.files if name[0] == "." or "/." in name} == {
        ".cache/other",
        "recipe/.cache/huggingface/b",
    }


GOOD = {
    "schema_version": 1,
    "layout": "builtin",
    "repo_id": "me/it",
    "files": {"a": {"size": 1, "sha256": "0" * 64}},
    "tensors": {},
    "incomplete": [],
    "digest": "",
    "tensors_digest": "",
}


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "null", "\x00", "[" * 100_000, '{"a":' * 100_000, '{"schema_version": 1, "files": 3}'),
        json.dumps({**GOOD, "tensors": []}),
        json.dumps({**GOOD, "files": []}),
        json.dumps({**GOOD, "files": {}}),
        json.dumps({**GOOD, "files": {"a": None}}),
        json.dumps({**GOOD, "files": {"a": {"size": True, "sha256": "0" * 64}}}),
        json.dumps({**GOOD, "files": {"a": {"size": 1, "sha256": "0" * 64, "more": 1}}}),
        json.dumps({**GOOD, "files": {"\ud800": {"size": 1, "sha256": "0" * 64}}, "tensors": {"\ud800": "0" * 64}}),
        json.dumps({**GOOD, "layout": "../x"}),
        json.dumps({**GOOD, "incomplete": "x"}),
        json.dumps({**GOOD, "digest": 5}),
        json.dumps({**GOOD, "repo_id": None}),
    ],
)
def test_what_is_no_manifest_is_said_so(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ManifestError, match="not readable"):
        read_manifest(folder)


def test_another_version_and_no_manifest_are_told_apart(folder: Path) -> None:
    with pytest.raises(ManifestError, match=r"has no manifest\.json"):
        read_manifest(folder)
    (folder / "manifest.json").write_text('{"schema_version": 7}')
    with pytest.raises(ManifestError, match="has version 7"):
        read_manifest(folder)


def test_tensor_digests_do_not_depend_on_the_files_they_lie_in(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0), "b": torch.ones(3, dtype=torch.float16)}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    save_file(tensors, tmp_path / "one/model.safetensors")
    for i, (name, tensor) in enumerate(tensors.items()):
        save_file({name: tensor}, tmp_path / f"two/model-{i}.safetensors")
    first, second = tensor_digests(tmp_path / "one"), tensor_digests(tmp_path / "two")
    assert combined_tensor_digest(first) == combined_tensor_digest(second)
    assert weight_distance(tmp_path / "one", tmp_path / "two").identical


def test_the_distance_names_what_differs_and_by_how_much(tmp_path: Path) -> None:
    for name, value, other in (("one", 3.0, "x"), ("two", 3.3, "y")):
        (tmp_path / name).mkdir()
        tensors = {"a": torch.tensor([4.0, value]), "same": torch.zeros(2), other: torch.ones(1)}
        save_file(tensors, tmp_path / name / "model.safetensors")
    distance = weight_distance(tmp_path / "one", tmp_path / "two")
    assert (distance.only_first, distance.only_second, distance.different) == (["x"], ["y"], ["a"])
    assert distance.relative == pytest.approx(0.3 / 5, rel=1e-5)
    assert not distance.identical


def test_the_same_numbers_in_another_type_are_not_identical(tmp_path: Path) -> None:
    for name, dtype in (("one", torch.float32), ("two", torch.bfloat16)):
        (tmp_path / name).mkdir()
        save_file({"a": torch.ones(2, dtype=dtype)}, tmp_path / name / "model.safetensors")
    distance = weight_distance(tmp_path / "one", tmp_path / "two")
    assert distance.different == ["a"]
    assert distance.relative == 0.0
