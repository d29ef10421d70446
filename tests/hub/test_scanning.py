"""What must not leave is found wherever it was planted, and nothing is found where there is nothing."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from transformers_llava.hub import scanning
from transformers_llava.hub.scanning import scan_folder


LETTERS = "aB3dE5gH7j"  # joined below, so that this file holds no secret itself


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("token: " + "hf_" + LETTERS * 3, "a Hugging Face token"),
        ("ghp_" + LETTERS * 4, "a GitHub token"),
        ("github_pat_" + LETTERS * 4, "a GitHub token"),
        ("key=" + "sk-proj-" + LETTERS * 3, "an OpenAI or Anthropic key"),
        ("AKIA" + "ABCDEFGH12345678", "an AWS key"),
        ("AIza" + LETTERS * 3 + "abcde", "a Google key"),
        ("-----BEGIN RSA " + "PRIVATE KEY-----", "a private key"),
        ("https://me:" + "secret@example.org/data", "a password in an address"),
        ("output_dir: /home/anna/output", "a path of a machine"),
        ("see /Users/anna/llava/train.json", "a path of a machine"),
        ("path: ~/data", "a path of a machine"),
        ("C:\\Users\\anna\\data", "a path of a machine"),
    ],
)
def test_what_was_planted_is_found_with_its_file_and_line(text: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "1_align.yaml").write_text(f"seed: 42\n{text}\n")
    findings = scan_folder(tmp_path)
    assert [(one.path, one.line, one.kind) for one in findings] == [("recipe/1_align.yaml", 2, kind)]


def test_a_secret_is_not_repeated_by_its_report(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("hf_" + LETTERS * 3)
    (finding,) = scan_folder(tmp_path)
    assert finding.excerpt == "hf_aB3dE..."
    assert str(finding) == "run.json:1: a Hugging Face token (hf_aB3dE...)"


def test_notes_in_the_header_of_weights_are_read(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(2)}, tmp_path / "model.safetensors", metadata={"made_in": "/home/anna/output"})
    assert [(one.kind, one.excerpt) for one in scan_folder(tmp_path)] == [("a path of a machine", "/home/anna/output")]


def test_host_and_user_are_found_as_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning.socket, "gethostname", lambda: "gpubox17")
    monkeypatch.setattr(scanning.getpass, "getuser", lambda: "anna")
    (tmp_path / "run.json").write_text('"host": "gpubox17"\n"by": "anna"\n"city": "savannah"\n')
    assert [(one.line, one.kind) for one in scan_folder(tmp_path)] == [
        (1, "the name of this machine"),
        (2, "the name of its user"),
    ]


def test_a_name_that_everybody_has_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning.socket, "gethostname", lambda: "localhost")
    monkeypatch.setattr(scanning.getpass, "getuser", lambda: "root")
    assert scanning.own_names() == {}


def test_data_may_speak_of_places_but_hold_no_secret(tmp_path: Path) -> None:
    (tmp_path / "recipe" / "data").mkdir(parents=True)
    secret = "hf_" + LETTERS * 3
    (tmp_path / "recipe/data/train.json").write_text(f"open /home/page and type {secret}\n")
    assert [one.kind for one in scan_folder(tmp_path)] == ["a Hugging Face token"]


@pytest.mark.parametrize(
    "text",
    ["#!/usr/bin/env python", "https://huggingface.co/data/x", "and/or", "hf_hub_download", "</s>", "me/tiny-llava"],
)
def test_ordinary_text_is_left_alone(text: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(text + "\n")
    assert scan_folder(tmp_path) == []


def test_what_is_pickled_beside_tensors_is_read(tmp_path: Path) -> None:
    torch.save({"output_dir": "/home/somebody/models", "a": torch.zeros(3)}, tmp_path / "optimizer.pt")
    findings = scan_folder(tmp_path)
    assert [(finding.path, finding.kind) for finding in findings] == [("optimizer.pt", "a path of a machine")]
