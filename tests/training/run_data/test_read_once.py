"""A run is what its files said when it began: each is read once, and an edit that comes later is not recorded."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from transformers_llava.artifacts.local_paths import LOCAL_PATHS_NAME
from transformers_llava.artifacts.run_record.record_file import read_run_record
from transformers_llava.chat_templates import load_chat_template
from transformers_llava.training import sft
from transformers_llava.training.trainer import LlavaTrainer


_opened: list[str] | None = None  # while a test listens


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None and isinstance(arguments[0], str | Path):
        _opened.append(os.path.abspath(arguments[0]))


sys.addaudithook(_note)  # cannot be removed, so it listens only while `_opened` is a list


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Every file that this process opens, as often as it does."""
    global _opened
    _opened = []
    yield _opened
    _opened = None


@pytest.fixture
def mixture(data_file: Path, tmp_path: Path) -> Path:
    """A mixture of sixteen of the records."""
    path = tmp_path / "mixture.yaml"
    path.write_text(yaml.safe_dump({"sources": [{"name": "toys", "path": str(data_file), "num_examples": 16}]}))
    return path


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "mine.jinja"
    path.write_text(load_chat_template("vicuna_v1"))
    return path


@pytest.mark.parametrize(
    "changes",
    [{}, {"replicate": "random"}, {"streaming": True, "streaming_window": 2, "max_steps": 2}],
    ids=["stored", "replicated", "streamed"],
)
def test_a_run_reads_its_mixture_and_its_template_once(
    run: Callable, mixture: Path, template: Path, opened: list[str], changes: dict[str, Any]
) -> None:
    if "streaming" in changes:
        mixture.write_text(mixture.read_text().replace("  num_examples: 16\n", ""))
        opened.clear()
    run(train_data=str(mixture), chat_template=str(template), num_train_epochs=1, **changes)
    assert opened.count(str(mixture)) == 1
    assert opened.count(str(template)) == 1


def test_a_run_reads_its_recipe_once(fields: dict[str, Any], mixture: Path, tmp_path: Path, opened: list[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({**fields, "train_data": str(mixture), "output_dir": str(tmp_path / "out")}))
    opened.clear()
    sft.main(["--config", str(recipe), "--max_steps", "1"])
    assert opened.count(str(recipe)) == 1
    assert opened.count(str(mixture)) == 1


def test_an_edit_during_the_run_is_not_recorded(
    run: Callable, mixture: Path, template: Path, data_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, train = mixture.read_text(), LlavaTrainer.train

    def edit_and_train(self: LlavaTrainer, *args: Any, **kwargs: Any) -> Any:
        mixture.write_text(yaml.safe_dump({"sources": [{"name": "others", "path": "/nowhere/others.json"}]}))
        template.write_text("{{ messages }}")
        return train(self, *args, **kwargs)

    monkeypatch.setattr(LlavaTrainer, "train", edit_and_train)
    folder, _ = run(train_data=str(mixture), chat_template=str(template), num_train_epochs=1)
    assert mixture.read_text() != trained
    record = read_run_record(folder).own
    assert [(source.name, source.num_examples) for source in record.mixture.sources] == [("toys", 16)]
    assert record.data.num_used == 16
    places = json.loads((folder / LOCAL_PATHS_NAME).read_text())["sources"]
    assert places == {"toys": {"path": str(data_file)}}
    assert record.chat_template == load_chat_template("vicuna_v1")
    assert (folder / "chat_template.jinja").read_text() == load_chat_template("vicuna_v1")
