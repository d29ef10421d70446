"""The programs in `examples/` run as their docstrings say, on a tiny checkpoint."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from tiny import make_image, make_model, make_processor


EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FIXTURES = Path(__file__).parent / "fixtures" / "checkpoints"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    make_model().save_pretrained(folder / "checkpoint")
    make_processor().save_pretrained(folder / "checkpoint")
    (folder / "images").mkdir()
    records = []
    for number in range(8):
        make_image(seed=number).save(folder / "images" / f"{number}.png")
        turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "red"}]
        records.append({"id": str(number), "image": f"{number}.png", "conversations": turns})
    (folder / "train.json").write_text(json.dumps(records))
    return folder


def run(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_every_example_is_run_here() -> None:
    tested = Path(__file__).read_text()
    programs = sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert len(programs) >= 4
    assert [name for name in programs if f'run("{name}"' not in tested] == []


def test_convert_and_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    source, image = FIXTURES / "checkpoints" / "h_cls_patch", FIXTURES / "images" / "img_a_64x48.png"
    tower = str(FIXTURES / "checkpoints" / "vision_tower_tiny")
    arguments = [str(source), str(tmp_path / "converted"), str(image), "What is it?", "--vision_tower", tower]
    run("convert_and_ask.py", arguments, monkeypatch)
    assert "(original) ->" in capsys.readouterr().out
    assert (tmp_path / "converted" / "model.safetensors").is_file()


def test_many_questions(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    arguments = [str(folder / "checkpoint"), str(folder / "images" / "0.png"), "Is it red?", "Is it large?"]
    run("many_questions.py", arguments, monkeypatch)
    printed = capsys.readouterr().out
    assert "Is it red? -> " in printed
    assert "Is it large? -> " in printed


def test_finetune_on_own_data_and_publish(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    arguments = [folder / "checkpoint", folder / "train.json", folder / "images", folder / "output"]
    run("finetune_on_own_data.py", [*map(str, arguments)], monkeypatch)
    assert "the checkpoint and its run.json are in" in capsys.readouterr().out
    record = json.loads((folder / "output" / "run.json").read_text())
    assert [entry["loss"] for entry in record["loss_history"] if "loss" in entry]

    publication = folder / "publication"
    run("publish_and_verify.py", [str(folder / "output"), "me/my-llava", str(publication)], monkeypatch)
    assert "llava verify me/my-llava" in (publication / "README.md").read_text()
    manifest = json.loads((publication / "manifest.json").read_text())
    assert manifest["incomplete"]  # nobody has stated what only a user can say
