"""Hold the table "who may import whom" and find every import that it does not allow, and every cycle."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

from invariants.source_tree import PACKAGE, ROOT, SOURCE, imports_of, modules_of, package_of, parse


EVERYTHING = {
    *("artifacts", "chat_templates", "conversion", "data", "demo", "evaluation", "generation", "hub", "modeling"),
    *("packaged", "registration", "scale", "synthesis", "training", PACKAGE),
}
# Contract: docs/concepts/architecture.md shows this table, and a test compares the two.
ALLOWED = {
    "cli": EVERYTHING,
    "demo": EVERYTHING,
    "hub": {"artifacts", "conversion", "data", "modeling", "chat_templates", "packaged"},
    "training": {"artifacts", "data", "conversion", "modeling", "chat_templates", "packaged"},
    "evaluation": {"artifacts", "data", "generation", "modeling", "chat_templates", "packaged"},
    "synthesis": {"artifacts", "data"},
    "scale": {"artifacts", "data"},
    "generation": {"artifacts", "data", "modeling"},
    "conversion": {"artifacts", "modeling", "chat_templates"},
    "data": {"artifacts", "modeling", "chat_templates", "packaged"},
    "artifacts": set(),
    "modeling": set(),
    "chat_templates": {"packaged"},
    "packaged": set(),
}
# Publishing, training and evaluating meet in files beside the checkpoint, never in an import.
NEVER = {
    "hub": {"training", "evaluation", "generation"},
    "training": {"hub", "evaluation", "generation"},
    "evaluation": {"hub", "training"},
}
# `import transformers_llava` registers the classes with transformers; whoever loads by Auto classes may.
REGISTERING = {"demo", "generation", "evaluation", "hub", "cli"}
ALLOWED |= {name: ALLOWED[name] | {PACKAGE, "registration"} for name in REGISTERING}
ALLOWED |= {"registration": {"modeling", "conversion"}, PACKAGE: {"modeling", "conversion", "registration"}}

# Who may import a heavy library when it is imported itself. Inside a function everybody may, but for `LIGHT`.
AT_THE_TOP = {
    "datasets": {"data", "training", "evaluation", "synthesis", "scale"},
    **dict.fromkeys(("trl", "peft", "accelerate"), frozenset({"training"})),
    "fastapi": {"generation"},
    "license_expression": {"hub"},
    "psutil": {"demo"},
    "pyarrow": {"data"},
    **dict.fromkeys(("sklearn", "uvicorn", "matplotlib", "deepspeed", "bitsandbytes"), frozenset()),
}
LIGHT = {"artifacts", "modeling", "chat_templates", "packaged", "registration", PACKAGE}
NAMES = modules_of(SOURCE)


def find_forbidden_imports(source: Path) -> list[str]:
    """Imports of another package of ours that the table does not allow."""
    names = modules_of(source)
    return [
        f"{name}, line {one.line}: {package_of(name)} may not import {one.name}"
        for name, path in names.items()
        for one in imports_of(path, source, names)
        if one.name.split(".")[0] == PACKAGE
        and package_of(one.name) != package_of(name)
        and package_of(one.name) not in ALLOWED.get(package_of(name), set())
    ]


def find_forbidden_libraries(source: Path) -> list[str]:
    """Imports of heavy libraries by who should not have them."""
    names = modules_of(source)
    return [
        f"{name}, line {one.line}: {package_of(name)} may not import {one.name}"
        + ("" if one.is_lazy else " at the top")
        for name, path in names.items()
        for one in imports_of(path, source, names)
        if one.name.split(".")[0] in AT_THE_TOP
        and package_of(name) not in AT_THE_TOP[one.name.split(".")[0]]
        and (not one.is_lazy or package_of(name) in LIGHT)
    ]


def find_cycle(source: Path) -> list[str]:
    """Modules that import each other in a circle, the first one again at the end; empty where there is no cycle."""
    names = modules_of(source)
    graph = {
        name: {one.name for one in imports_of(path, source, names)} & names.keys() for name, path in names.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(reversed(error.args[1]))
    return []


def test_only_what_the_table_allows_is_imported() -> None:
    assert len(NAMES) > 100
    assert {package_of(name) for name in NAMES} - {"recipes", "accelerate_configs"} <= ALLOWED.keys()
    assert find_forbidden_imports(SOURCE) == []


def test_heavy_libraries_are_imported_where_they_belong() -> None:
    assert find_forbidden_libraries(SOURCE) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert sum(len(imports_of(path, SOURCE, NAMES)) for path in NAMES.values()) > 1000
    assert find_cycle(SOURCE) == []


def test_the_table_itself_is_without_a_cycle() -> None:
    rows = {name: others - {name} for name, others in ALLOWED.items() if name not in ("cli", "demo")}
    assert graphlib.TopologicalSorter(rows).prepare() is None
    assert not [(name, other) for name, others in NEVER.items() for other in others & ALLOWED[name]]


def test_the_documented_table_is_this_one() -> None:
    text = (ROOT / "docs" / "concepts" / "architecture.md").read_text(encoding="utf-8")
    figure = text.partition("## Who may import whom")[2].split("```")[1]
    rows = re.findall(r"^([\w, ]+?) +──► (.+?)(?:  .*)?$", figure, re.MULTILINE)
    documented = {
        name: EVERYTHING if allowed.startswith("everything") else set(allowed.split(", ")) - {"nothing of ours"}
        for importers, allowed in rows
        for name in importers.split(", ")
    }
    ours = {name: others - {PACKAGE, "registration"} for name, others in ALLOWED.items()}
    assert {name: others - {PACKAGE, "registration"} for name, others in documented.items()} == {
        **{name: others for name, others in ours.items() if name not in ("registration", PACKAGE)},
        "benchmarks": ours["demo"],
    }


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("hub/planted.py", "import transformers_llava.training.sft", "hub may not import"),
        ("data/planted.py", "def f():\n    from transformers_llava import hub", "line 2: data may not import"),
        ("modeling/planted.py", "from ..artifacts import limits", "modeling may not import"),
        ("training/planted.py", "if TYPE_CHECKING:\n    from transformers_llava.evaluation import run", "line 2"),
        ("data/planted.py", "import importlib\nimportlib.import_module('transformers_llava.cli.main')", "cli.main"),
        ("unheard_of/planted.py", "from transformers_llava.data import schema", "unheard_of may not import"),
    ],
)
def test_a_planted_import_is_found(file: str, text: str, found: str, tmp_path: Path) -> None:
    _plant(tmp_path, {file: text})
    (one,) = find_forbidden_imports(tmp_path)
    assert found in one


@pytest.mark.parametrize(
    ("file", "text", "is_found"),
    [
        ("conversion/planted.py", "import peft", True),
        ("conversion/planted.py", "def f():\n    import peft", False),
        ("modeling/planted.py", "def f():\n    import datasets.arrow_dataset", True),
        ("data/planted.py", "from datasets import Dataset", False),
        ("hub/planted.py", "from datasets import Dataset", True),
    ],
)
def test_a_planted_library_is_found(file: str, text: str, is_found: bool, tmp_path: Path) -> None:
    _plant(tmp_path, {file: text})
    assert bool(find_forbidden_libraries(tmp_path)) == is_found


@pytest.mark.parametrize(
    "back", ["from .a import x", "def f():\n    from . import a", "import transformers_llava.data.a"]
)
def test_a_planted_cycle_is_found(back: str, tmp_path: Path) -> None:
    files = {
        "data/a.py": "if TYPE_CHECKING:\n    from transformers_llava.data import b",
        "data/b.py": "from .c import x",
    }
    _plant(tmp_path, files | {"data/c.py": "x = 1"})
    assert find_cycle(tmp_path) == []
    _plant(tmp_path, {"data/c.py": back})
    assert len(find_cycle(tmp_path)) == 4


def test_modeling_imports_siblings_relatively_so_that_its_files_can_be_copied() -> None:
    paths = [path for name, path in NAMES.items() if package_of(name) == "modeling" and path.name != "__init__.py"]
    assert paths
    for path in paths:
        absolute = [node.module for node in ast.walk(parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        assert not [name for name in absolute if name and name.startswith(PACKAGE)], path


def test_commands_import_heavy_things_only_when_they_run() -> None:
    paths = [path for path in NAMES.values() if "commands" in path.parts]
    assert paths
    for path in paths:
        at_the_top = {one.name for one in imports_of(path, SOURCE, NAMES) if not one.is_lazy}
        assert not {name.split(".")[0] for name in at_the_top} & {"torch", "transformers", *AT_THE_TOP}, path
        ours = {name for name in at_the_top if name.startswith(PACKAGE)}
        assert ours <= {f"{PACKAGE}.cli.errors", f"{PACKAGE}.cli.commands.publications.publication_arguments"}, path


def test_strict_configurations_are_really_checked() -> None:
    """`from __future__ import annotations` would switch the validation of `@strict` off without a word."""
    paths = [path for path in NAMES.values() if "import strict" in path.read_text(encoding="utf-8")]
    assert paths
    for path in paths:
        assert "from __future__ import annotations" not in path.read_text(encoding="utf-8").splitlines(), path


def _plant(source: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = source / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
