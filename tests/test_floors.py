"""Who may import whom: walks every import of the package and proves the floors of the house."""

import ast
from pathlib import Path

import pytest


PACKAGE = "transformers_llava"
ROOT = Path(__file__).parents[1] / "src" / PACKAGE
FLOORS = {
    "artifacts": 0.5,  # files that others wrote, and the bounds on them; imports nothing of ours
    "modeling": 0,
    "conversion": 1,
    "data": 1,
    "packaged": 0.4,  # names of packaged files; imports nothing of ours
    "chat_templates": 0.5,  # texts without an import, read by conversion and data
    "training": 2,
    "evaluation": 2,
    "generation": 2,
    "hub": 3,
    "cli": 5,
    "demo": 5,
}
# Which floor a heavy library may enter on, at the earliest; inside a function, any above modeling.
LIBRARIES = {"datasets": 1, "trl": 2, "peft": 2, "accelerate": 2, "sklearn": 5}
ALLOWED_ASIDE = {
    "hub": {"evaluation"},
    "cli": {"demo"},
    "demo": {"cli"},
    "registration": {"modeling", "conversion"},
    "__init__": {"modeling", "conversion", "registration"},
}
# Training and publishing meet in files beside the checkpoint, never in an import.
FORBIDDEN = {"hub": {"training", "generation"}, "training": {"evaluation", "generation"}, "evaluation": {"generation"}}
MODULES = sorted(ROOT.rglob("*.py"))


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """Absolute names of the modules that a file imports, and whether that happens inside a function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    here = (PACKAGE, *path.relative_to(ROOT).parent.parts)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            found.append((module, id(node) in inside))
            found += [(f"{module}.{alias.name}", id(node) in inside) for alias in node.names if not node.module]
    return found


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0]


def rooms_imported(path: Path) -> set[tuple[str, bool]]:
    """Rooms of ours that a file imports."""
    ours = [(name.split("."), lazy) for name, lazy in imports_of(path) if name.split(".")[0] == PACKAGE]
    return {(parts[1] if len(parts) > 1 else "__init__", lazy) for parts, lazy in ours}


def test_there_are_modules_to_walk_and_every_room_has_a_floor() -> None:
    assert len(MODULES) > 20
    rooms = {room_of(path) for path in MODULES}
    assert {"modeling", "data", "training", "cli"} <= rooms
    data_only = {"recipes", "accelerate_configs"}
    assert rooms <= set(FLOORS) | {"__init__", "registration"} | data_only
    assert not any(room_of(path) in data_only for path in MODULES)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_downwards_only(path: Path) -> None:
    room = room_of(path)
    for other, _ in rooms_imported(path):
        assert other not in FORBIDDEN.get(room, ()), f"{path} imports {other}"
        if other in (room, *ALLOWED_ASIDE.get(room, ())):
            continue
        if other in ("__init__", "registration"):  # the package itself: registers, and is on every floor's way
            assert room in ("__init__", "cli", "demo", "hub", "generation", "evaluation"), f"{path} imports {other}"
            continue
        assert FLOORS.get(other, 9) < FLOORS.get(room, -1), f"{room} (floor {FLOORS.get(room)}) imports {other}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_heavy_libraries_enter_on_their_floor(path: Path) -> None:
    floor = FLOORS.get(room_of(path), 0)
    for name, is_lazy in imports_of(path):
        entry = LIBRARIES.get(name.split(".")[0])
        assert entry is None or floor >= entry or (is_lazy and floor >= 1), f"{path} imports {name}"


def test_modeling_imports_siblings_relatively_so_that_its_files_can_be_copied() -> None:
    paths = [path for path in MODULES if room_of(path) == "modeling" and path.name != "__init__.py"]
    assert paths
    for path in paths:
        absolute = [node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        assert not [name for name in absolute if name and name.startswith(PACKAGE)], path


def test_commands_import_heavy_things_only_when_they_run() -> None:
    paths = [path for path in MODULES if path.parent.name == "commands"]
    assert paths
    for path in paths:
        at_the_top = {name.split(".")[0] for name, lazy in imports_of(path) if not lazy}
        assert not at_the_top & {"torch", "transformers", *LIBRARIES}, path
        ours = {name for name, lazy in imports_of(path) if not lazy and name.startswith(PACKAGE)}
        assert ours <= {f"{PACKAGE}.cli.errors", f"{PACKAGE}.cli.publication_arguments"}, path


def _modules_imported(path: Path, names: dict[str, Path]) -> set[str]:
    """Names of our modules that a file imports anywhere, also inside functions and under TYPE_CHECKING."""
    found = set()
    here = (PACKAGE, *path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            for alias in node.names:
                found.add(f"{module}.{alias.name}" if f"{module}.{alias.name}" in names else module)
    return found & names.keys()


def test_no_module_imports_itself_by_way_of_others() -> None:
    names = {
        ".".join((PACKAGE, *path.relative_to(ROOT).with_suffix("").parts)): path
        for path in MODULES
        if path.name != "__init__.py"
    }
    imported = {name: _modules_imported(path, names) for name, path in names.items()}
    assert sum(map(len, imported.values())) > 400
    while leaves := [name for name, others in imported.items() if not others & imported.keys()]:
        for name in leaves:
            del imported[name]
    assert not imported, f"in a circle, or above one: {sorted(imported)}"


def test_strict_configurations_are_really_checked() -> None:
    """`from __future__ import annotations` would switch the validation of `@strict` off without a word."""
    paths = [path for path in MODULES if "import strict" in path.read_text(encoding="utf-8")]
    assert paths
    for path in paths:
        assert "from __future__ import annotations" not in path.read_text(encoding="utf-8").splitlines(), path
