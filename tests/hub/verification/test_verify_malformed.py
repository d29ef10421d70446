"""Malformed publications of every kind: a failed check with its reason, and never an exception."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.hub.publications import linked_copy, replace, shared_publication, write_manifest_anew
from tests.hub.verification.mutations import ALIASES

from transformers_llava.hub.verification.verify import verify


@pytest.fixture
def copy(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    return linked_copy(shared_publication(tmp_path_factory.getbasetemp()), tmp_path / "copy")


def change_run(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        run = json.loads((folder / "run.json").read_text())
        change(run)
        replace(folder / "run.json", json.dumps(run))

    return tamper


def text(name: str, content: str | bytes) -> Callable[[Path], None]:
    return lambda folder: replace(folder / name, content)


def set_source(**fields: Any) -> Callable[[Path], None]:
    """In the run and, as it follows from that, in the mixture file."""

    def change(run: dict[str, Any]) -> None:
        for one in (run, *run["previous"]):
            one["mixture"]["sources"][0] |= fields

    return change_run(change)


DEEP: Any = json.loads("[" * 200 + "]" * 200)
CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "run.json a list": (text("run.json", "[]"), "run.json"),
    "run.json null": (text("run.json", "null"), "run.json"),
    "run.json deep": (text("run.json", "[" * 100_000), "run.json"),
    "run.json a binary": (text("run.json", b"\xff\x00\xfe"), "run.json"),
    "run.json empty": (text("run.json", ""), "run.json"),
    "command with an open quote": (change_run(lambda run: run.update(command='llava "train')), "run.json"),
    "previous a number": (change_run(lambda run: run.update(previous=5)), "run.json"),
    "previous of numbers": (change_run(lambda run: run.update(previous=[1])), "run.json"),
    "stage a list": (change_run(lambda run: run.update(stage=["x"])), ""),
    "stage a path": (change_run(lambda run: run.update(stage="x/../../../outside")), ""),
    "environment a list": (change_run(lambda run: run.update(environment=["x"])), "run.json"),
    "configuration a text": (change_run(lambda run: run.update(configuration="x")), "run.json"),
    "base_models of numbers": (change_run(lambda run: run.update(base_models=[1])), "run.json"),
    "hardware null": (change_run(lambda run: run.update(hardware=None)), ""),
    "versions a number": (change_run(lambda run: run.update(versions=3)), ""),
    "tensors a list": (change_run(lambda run: run.update(tensors=[1])), "weights of run.json"),
    "losses of words": (change_run(lambda run: run.update(loss_history="x")), ""),
    "sources a number": (change_run(lambda run: run["mixture"].update(sources=1)), "run.json"),
    "source path null": (set_source(path=None), "run.json"),
    "source path a number": (set_source(path=7), "run.json"),
    "source path deep": (set_source(path=DEEP), ""),
    "mixture weight a word": (text("recipe/1_align.mixture.yaml", "sources: [{name: a, path: d, weight: x}]"), ""),
    "recipe no UTF-8": (text("recipe/1_align.yaml", b"\xff\xfe"), "recipe/1_align.yaml"),
    "mixture no UTF-8": (text("recipe/1_align.mixture.yaml", b"\xff\xfe"), "recipe/1_align.mixture.yaml"),
    "recipe of aliases": (text("recipe/1_align.yaml", ALIASES), "recipe/1_align.yaml"),
    "recipe a date 13": (text("recipe/1_align.yaml", "a: 2020-13-45"), "recipe/1_align.yaml"),
    "config a list": (text("config.json", "[]"), "documents"),
    "config deep": (text("config.json", "[" * 100_000), "documents"),
    "evaluation of words": (text("evaluation.json", '{"tasks": ["x"]}'), "documents"),
    "facts of aliases": (text("card.yaml", ALIASES), "documents"),
    "facts of other types": (text("card.yaml", "licenses: [x]"), "documents"),
    "card no UTF-8": (text("README.md", b"\xff"), "README.md"),
    "card of aliases": (text("README.md", f"---\n{ALIASES}\n---\n"), "README.md"),
    "card of markers": (text("README.md", "<!-- llava:begin usage -->\n" * 30_000), "README.md"),
    "card of a gigabyte": (text("README.md", b"x" * (2**20 + 1)), "README.md"),
    "license no UTF-8": (text("LICENSE.md", b"\xff"), "LICENSE.md"),
    "index leads out": (text("model.safetensors.index.json", '{"weight_map": {"a": "../x.safetensors"}}'), "model"),
    "index a list": (text("model.safetensors.index.json", "[]"), "model.safetensors.index.json"),
    "index a number": (text("model.safetensors.index.json", '{"weight_map": 3}'), "model.safetensors.index.json"),
    "weights twice": (lambda folder: replace(folder / "more.safetensors", weights(folder)), "tensors"),
    "weights cut": (lambda folder: replace(folder / "model.safetensors", weights(folder)[:999]), "tensors"),
    "weights empty": (text("model.safetensors", b""), "tensors"),
    "weights gone": (lambda folder: (folder / "model.safetensors").unlink(), "tensors"),
}  # fmt: skip


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", CASES)
def test_what_is_malformed_is_a_failed_check_with_its_reason(copy: Path, name: str) -> None:
    tamper, where = CASES[name]
    tamper(copy)
    for is_anew in (False, True):
        if is_anew and name in ("weights twice", "weights cut", "weights empty"):
            continue  # no manifest can be made of it
        if is_anew:
            write_manifest_anew(copy)
        report = verify(copy)
        assert not report.passed, report
        found = [check for check in report.failed if check.name.startswith(where)]
        assert found, report
        assert all(check.message for check in report.failed)
    assert report.status("L2") == "skipped"


MANIFESTS = ["", "[]", "{}", "[" * 100_000, '{"schema_version": 1, "tensors": []}', "\x00", "NaN"]


@pytest.mark.parametrize("content", MANIFESTS, ids=range(len(MANIFESTS)))
def test_what_is_no_manifest_fails_level_0_alone(copy: Path, content: str) -> None:
    replace(copy / "manifest.json", content)
    report = verify(copy)
    assert [(check.level, check.name, check.status) for check in report.checks] == [("L0", "manifest", "failed")]


def test_a_card_says_each_generated_part_once_and_no_other(copy: Path) -> None:
    card = (copy / "README.md").read_text()
    for forged in ("usage", "evaluation"):  # one that is there, and one that is not
        part = f"<!-- llava:begin {forged} -->\nscore 99.9\n<!-- llava:end {forged} -->\n\n"
        replace(copy / "README.md", card.replace("<!-- llava:begin usage -->", f"{part}<!-- llava:begin usage -->"))
        assert [check.name for check in verify(copy).failed] == ["README.md"], forged
