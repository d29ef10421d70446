"""What must not leave is found wherever it hides, and what only looks like it is left alone."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from transformers_llava.hub import scanning
from transformers_llava.hub.scanning import scan_folder


# Put together here, so that no tool that looks for secrets takes them for real ones.
PLANTED = {
    "a Hugging Face token": "hf_" + "AbCd1234" * 4,
    "a GitHub token": "ghp_" + "a1B2" * 9,
    "an OpenAI or Anthropic key": "sk-" + "proj-" + "x1" * 15,
    "an AWS key": "AKIA" + "IOSFODNN7EXAMPLE",
    "a Google key": "AIza" + "S" * 35,
    "a Slack token": "xoxb" + "-123456789012-abc",
    "a private key": "-----BEGIN EC " + "PRIVATE KEY-----",
    "a password in an address": "https://me:" + "secret@example.org/x",
    "a path of a machine": "/home/" + "somebody/models/vicuna",
}


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("name", ["run.json", "recipe/1_align.yaml", "README.md"])
def test_planted_secrets_and_places_are_found(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"fine\nvalue: {PLANTED[kind]}\n")
    findings = [finding for finding in scan_folder(tmp_path) if finding.kind == kind]
    assert [(finding.path, finding.line) for finding in findings] == [(name, 2)]
    if "path" not in kind:
        assert PLANTED[kind] not in str(findings[0])  # it is not spread by the report


@pytest.mark.parametrize(
    "place", ["/Users/x/a", "~/models/x", "C:\\Users\\me\\x", "/scratch/me/run1", "/tmp/abc123/x"]
)
def test_places_of_many_machines_are_known(tmp_path: Path, place: str) -> None:
    (tmp_path / "a.txt").write_text(f"from '{place}'")
    assert [finding.kind for finding in scan_folder(tmp_path)] == ["a path of a machine"]


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/home/page",
        "#!/usr/bin/env sh",
        "either/or, 3/4, </s>",
        "recipe/data/toys/train.json",
        "weights sha256 " + "ab" * 32,
        "hf_transfer",
        "task-specific",
    ],
)
def test_harmless_texts_are_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.md").write_text(text)
    assert scan_folder(tmp_path) == []


def test_names_of_the_machine_and_its_user_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "gpu-node-17")
    monkeypatch.setattr("getpass.getuser", lambda: "ada")  # too short: it is part of words and of other names
    (tmp_path / "run.json").write_text('{"host": "gpu-node-17", "optim": "adamw", "user": "ada"}')
    assert [finding.kind for finding in scan_folder(tmp_path)] == ["the name of this machine"]
    monkeypatch.setattr("getpass.getuser", lambda: "lovelace")
    assert set(scanning.own_names()) == {"the name of this machine", "the name of its user"}


def test_the_notes_in_a_weight_file_are_read_and_its_numbers_are_not(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors", metadata={"from": PLANTED["a path of a machine"]})
    assert [finding.path for finding in scan_folder(tmp_path)] == ["model.safetensors"]


def test_data_may_speak_of_places_but_not_hold_a_token(tmp_path: Path) -> None:
    path = tmp_path / "recipe/data/toys/train.json"
    path.parent.mkdir(parents=True)
    path.write_text(f'["cd /home/me/x", "{PLANTED["a Hugging Face token"]}"]')
    assert [finding.kind for finding in scan_folder(tmp_path)] == ["a Hugging Face token"]
