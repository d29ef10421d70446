"""Fenced Python blocks in README and docs run, in a folder that has what they name: a checkpoint and an image."""

import re
from pathlib import Path

import pytest

from tiny import make_image, make_model, make_processor


ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "benchmarks").rglob("*.md")),
]
BLOCKS = [
    pytest.param(block, id=f"{document.relative_to(ROOT)}:{number}")
    for document in DOCUMENTS
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", document.read_text(), re.M | re.S))
]


def test_there_are_blocks_to_run() -> None:
    assert len(BLOCKS) >= 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    make_model().save_pretrained(folder / "demo_output" / "checkpoint")
    make_processor().save_pretrained(folder / "demo_output" / "checkpoint")
    make_image().save(folder / "image.png")
    return folder


@pytest.mark.parametrize("block", BLOCKS)
def test_python_blocks_run(block: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    exec(compile(block, "<document>", "exec"), {"__name__": "__main__"})


def test_documents_have_no_broken_links() -> None:
    links = [
        (document, target)
        for document in DOCUMENTS
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", document.read_text())
    ]
    broken = [(str(document), target) for document, target in links if not (document.parent / target).exists()]
    assert broken == []
