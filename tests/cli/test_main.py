"""The command line: its parser, its recipes, and what it refuses."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from transformers_llava.cli import main as cli


def test_every_command_can_be_parsed_and_says_what_it_does(capsys: pytest.CaptureFixture) -> None:
    assert cli.main([]) == 0
    overview = " ".join(capsys.readouterr().out.split())
    for name, description in cli.COMMANDS.items():
        assert f"{name} " in overview
        assert description in overview
        module = importlib.import_module(cli.module_of(name))
        assert module.__doc__
        with pytest.raises(SystemExit) as ended:
            cli.main([name, "--help"])
        assert ended.value.code == 0
        assert f"llava {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["recipes", "ls"],
        ["recipes", "show", "tiny/1_align"],
        ["data", "--help"],
        ["data", "ls"],
        ["train", "--config", "tiny/1_align", "--accelerate_config", "cpu", "--print_command"],
        ["train", "--help"],
    ],
    ids=" ".join,
)
def test_what_needs_no_model_does_not_import_torch(words: list[str]) -> None:
    program = (
        "import sys, transformers_llava_cli\ntry:\n    transformers_llava_cli.main()\nexcept SystemExit:\n    pass\n"
    )
    program += "print('imported:', sorted({'torch', 'transformers', 'datasets', 'accelerate'} & set(sys.modules)))"
    command = [sys.executable, "-c", program, *words]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "imported: []"
    assert len(finished.stdout.splitlines()) > 1


def test_the_package_comes_whole_when_a_command_asks_for_it() -> None:
    program = "import sys, transformers_llava_cli, transformers_llava\nprint('torch' in sys.modules)\n"
    program += "from transformers_llava import OpenLlavaConfig\nfrom transformers import AutoConfig\n"
    program += "print(type(AutoConfig.for_model('open_llava')) is OpenLlavaConfig)\n"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.split() == ["False", "True"]


def test_an_unknown_flag_is_an_error_where_it_can_be_no_field(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["env", "--wat"])
    assert ended.value.code == 2
    assert "unknown arguments: --wat; `llava env --help` lists" in capsys.readouterr().err


def test_recipes_are_listed_shown_and_copied(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert cli.main(["recipes", "ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split(maxsplit=1)[0] == "tiny/1_align" and "Stage 1 of the demo" in line for line in lines)
    copy = tmp_path / "mine" / "align.yaml"
    assert cli.main(["recipes", "cp", "tiny/1_align", str(copy)]) == 0
    capsys.readouterr()
    assert cli.main(["recipes", "show", "tiny/1_align"]) == 0
    assert capsys.readouterr().out == copy.read_text()
    assert cli.main(["recipes", "cp", "tiny/1_align", str(copy)]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert cli.main(["recipes", "fields", "projector"]) == 0
    assert "multi_modal_projector\n" in capsys.readouterr().out


def test_env_names_versions_and_no_machine(capsys: pytest.CaptureFixture) -> None:
    import socket

    assert cli.main(["env"]) == 0
    out = capsys.readouterr().out
    assert "transformers " in out
    assert socket.gethostname() not in out
