"""A command whose packages are not installed says which extra brings them; `pyproject.toml` knows the same extras."""

import importlib.util
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from transformers_llava.cli import extras
from transformers_llava.cli import main as cli


PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
COMMANDS = {
    "train": ["train", "--config", "tiny/1_align"],
    "demo": ["demo"],
    "publish": ["publish", "folder", "me/x"],
    "verify": ["verify", "me/x"],
    "reproduce": ["reproduce", "me/x", "out"],
    "serve": ["serve", "folder"],
    "inspect": ["inspect", "data", "--config", "tiny/1_align"],
    "recipes": ["recipes", "fields"],
}


class Absent:
    """Import hook of an environment without some packages."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def hide(monkeypatch: pytest.MonkeyPatch, names: Sequence[str]) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] in names]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Absent(names), *sys.meta_path])


@pytest.mark.parametrize(
    ("command", "absent", "extra"),
    [
        ("train", ["accelerate", "trl"], "train"),
        ("demo", ["sklearn"], "demo"),
        ("publish", ["license_expression"], "hub"),
        ("verify", ["license_expression"], "hub"),
        ("reproduce", ["trl"], "train"),
        ("serve", ["fastapi"], "serve"),
        ("inspect", ["datasets"], "train"),
        ("recipes", ["trl"], "train"),
    ],
)
def test_a_command_names_the_extra_that_it_needs(
    command: str, absent: list[str], extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    hide(monkeypatch, absent)
    assert cli.main(COMMANDS[command]) == 2
    error = capsys.readouterr().err
    assert f"pip install 'transformers-llava[{extra}]'" in error
    assert all(name in error for name in absent)


def test_the_extras_are_those_of_the_package() -> None:
    listed = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    assert set(extras.EXTRAS) <= set(listed)
    assert "torch>=2.11" in listed["varlen"]
    source = "\n".join(path.read_text() for path in (PYPROJECT.parent / "src").rglob("*.py"))
    named = {name for group in re.findall(r"transformers-llava\[([a-z,-]+)\]", source) for name in group.split(",")}
    assert named
    assert named <= set(listed)


def test_the_modules_of_an_extra_are_found_where_they_are_installed() -> None:
    missing = {
        name for modules in extras.EXTRAS.values() for name in modules if importlib.util.find_spec(name) is None
    }
    assert missing <= {
        "deepspeed",
        "fastapi",
        "uvicorn",
        "openai",
        "matplotlib",
        "openpyxl",
    }  # the tests need all others anyhow
    extras.require_extra("train", "this test")


def test_a_missing_module_is_brought_by_the_smallest_extra() -> None:
    brought = {name: extras.extra_of(name) for name in ("trl", "datasets", "license_expression", "psutil", "OpenSSL")}
    expected = {"trl": "train", "datasets": "train", "license_expression": "hub", "psutil": "demo", "OpenSSL": "sign"}
    assert brought == expected
    assert extras.extra_of("wat") is None
