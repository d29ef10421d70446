"""Hold the table of who starts which command of ours as a child process: such a start is an import by another way."""

import ast
import fnmatch
from collections.abc import Iterator
from pathlib import Path

import pytest

from invariants.source_tree import PACKAGE, SOURCE, called_name, modules_of, package_of, parse, texts_in
from transformers_llava.cli.main import COMMANDS


# Module -> what it starts. `*words` are words that another module gives; a test below says which they can be.
STARTS = {
    # accelerate's launcher, which starts the training; the line `llava train ...` goes into the run's record.
    "cli.accelerate_launch": {"-m transformers_llava.training.sft", "llava train"},
    # The demo trains as a user would, and asks a process that has nothing but the saved folder.
    "demo.run": {"-m transformers_llava_cli train", "-m transformers_llava.demo.ask"},
    # Publishing and training meet in files: the recipe folder of a publication is what is trained.
    "hub.reproduction.reproduce": {"-m transformers_llava.cli.main *words"},
    # What came back from the Hub is loaded as its users load it.
    "hub.upload.publish": {"-c import transformers_llava"},
}
COMMANDS_OF_HUB = {"train"}  # the first of `*words`

_CALLS = (
    *("subprocess.*", "runpy.run_*", "os.system", "os.popen", "os.exec*", "os.spawn*", "os.posix_spawn*", "os.fork*"),
    *("pty.spawn", "multiprocessing.Process", "asyncio.create_subprocess_*", "python_command"),
)
_MODULES = ("subprocess", "runpy", "pty")  # imported under another name, or a name of it: a call too


def find_starts(source: Path) -> dict[str, set[str]]:
    """Module -> commands of ours that it starts, or writes down as started; of modules that start any process."""
    found = {}
    for name, path in modules_of(source).items():
        tree = parse(path.read_text(encoding="utf-8"))
        if _starts_processes(tree) and not _only_builds(tree):
            found[name.partition(".")[2]] = set(_commands(tree))
    return found


def _starts_processes(tree: ast.Module) -> bool:
    calls = (called_name(node) for node in ast.walk(tree) if isinstance(node, ast.Call))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    renamed = {one.name for node in ast.walk(tree) if isinstance(node, ast.Import) for one in node.names if one.asname}
    return any(fnmatch.fnmatch(call, one) for call in calls for one in _CALLS) or not (imported | renamed).isdisjoint(
        _MODULES
    )


def _only_builds(tree: ast.Module) -> bool:
    """The module that defines `python_command` starts nothing."""
    return any(isinstance(node, ast.FunctionDef) and node.name == "python_command" for node in tree.body)


def _commands(tree: ast.Module) -> Iterator[str]:
    in_lists = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.List | ast.Tuple):
            words = [_word(element) for element in node.elts]
            for number, word in enumerate(words):
                following = (words[number + 1 : number + 2] or ["?"])[0]
                if word == "llava" and number == 0:
                    yield f"llava {following}"
                elif word in (f"{PACKAGE}.cli.main", f"{PACKAGE}_cli"):
                    in_lists.add(word)
                    yield f"-m {word} {following}"
    for text in texts_in(tree):
        if f"import {PACKAGE}" in text:
            yield f"-c import {PACKAGE}"
        elif text not in in_lists and text.startswith(f"{PACKAGE}.") and text.replace(".", "").isidentifier():
            yield f"-m {text}"


def _word(element: ast.expr) -> str:
    """An element of a command as it is written; of `*python_command(module)` the module, of other names the name."""
    if isinstance(element, ast.Constant):
        return str(element.value)
    if isinstance(element, ast.Starred):
        texts = list(texts_in(element))
        return texts[0] if texts else f"*{ast.unparse(element.value)}"
    return ast.unparse(element)


def find_command_words(source: Path, package: str) -> set[str]:
    """The commands of `llava` for which a package writes arguments: lists such as `["train", "--config", ...]`."""
    return {
        str(node.elts[0].value)
        for name, path in modules_of(source).items()
        if package_of(name) == package
        for node in ast.walk(parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.List | ast.Tuple) and len(node.elts) > 1 and isinstance(node.elts[0], ast.Constant)
        if node.elts[0].value in COMMANDS and any(text.startswith("--") for text in texts_in(node))
    }


def test_only_what_the_table_says_is_started() -> None:
    assert find_starts(SOURCE) == STARTS


def test_hub_trains_and_runs_no_other_command() -> None:
    assert find_command_words(SOURCE, "hub") == COMMANDS_OF_HUB


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'transformers_llava.training.sft'])", "-m"),
        ("from subprocess import check_call as go\ngo(['llava', 'train'])", "llava train"),
        ("import subprocess as sp\nsp.run(['llava', 'convert'])", "llava convert"),
        ("import os\nos.execvp('llava', ['llava', 'publish'])", "llava publish"),
        ("import subprocess\nsubprocess.Popen(('llava', command))", "llava command"),
        ("import runpy\nrunpy.run_module('transformers_llava.demo.ask')", "-m transformers_llava.demo.ask"),
        ("subprocess.run([*python_command('transformers_llava.cli.main'), *words])", "*words"),
        ("import subprocess\nsubprocess.run(['python', '-c', 'import transformers_llava.hub'])", "-c import"),
        ("import subprocess\nsubprocess.run(['git', 'log'])", ""),
    ],
)
def test_a_planted_start_is_found(text: str, found: str, tmp_path: Path) -> None:
    path = tmp_path / PACKAGE / "hub" / "planted.py"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    starts = find_starts(tmp_path)
    assert starts != STARTS
    assert any(found in command for command in starts["hub.planted"]) == bool(found)


def test_a_planted_command_of_hub_is_found(tmp_path: Path) -> None:
    path = tmp_path / PACKAGE / "hub" / "planted.py"
    path.parent.mkdir(parents=True)
    path.write_text("words = ['publish', '--yes']")
    assert find_command_words(tmp_path, "hub") == {"publish"}
