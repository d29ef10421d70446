"""Read from source what the modules of a package import and which processes they start."""

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


PACKAGE = "transformers_llava"
ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"  # holds the folder of the package


@dataclass(frozen=True)
class Import:
    """
    One import statement's module.

    Args:
        name (`str`): Absolute and dotted; a module wherever one of that name exists, else what was written.
        line (`int`): Of the statement.
        is_lazy (`bool`): It stands inside a function.
    """

    name: str
    line: int
    is_lazy: bool


def modules_of(source: Path) -> dict[str, Path]:
    """Dotted name of every module below `source` -> its file; a package by the name of its folder."""
    found = {}
    for path in sorted((source / PACKAGE).rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def package_of(name: str) -> str:
    """
    The row of the table that a module belongs to.

    >>> [package_of(name) for name in ("transformers_llava.data.schema", "transformers_llava")]
    ['data', 'transformers_llava']
    """
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


@functools.cache
def parse(text: str) -> ast.Module:
    """The tree of a source text; several checks walk the same files."""
    return ast.parse(text)


def imports_of(path: Path, source: Path, names: dict[str, Path]) -> list[Import]:
    """All imports of a file: at the top, inside functions, under `TYPE_CHECKING`, and by `import_module`."""
    tree = parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node) for function in ast.walk(tree) if isinstance(function, _FUNCTIONS) for node in ast.walk(function)
    }
    here = path.relative_to(source).parent.parts
    return [
        Import(name, node.lineno, id(node) in inside)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Call)
        for name in _imported(node, here, names)
    ]


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def _imported(node: ast.AST, here: tuple[str, ...], names: dict[str, Path]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
        module = ".".join(part for part in (base, node.module or "") if part)
        for alias in node.names:  # `from package import module` imports the module too
            yield f"{module}.{alias.name}" if f"{module}.{alias.name}" in names else module
    elif isinstance(node, ast.Call) and called_name(node).rpartition(".")[2] in ("import_module", "__import__"):
        for text in texts_in(node):
            yield text.rstrip(".")  # of an f-string what stands before the first brace


def called_name(node: ast.Call) -> str:
    """`subprocess.run` of `subprocess.run(...)`; empty for what is not a plain name."""
    parts = []
    target: ast.AST = node.func
    while isinstance(target, ast.Attribute):
        parts.append(target.attr)
        target = target.value
    return ".".join([target.id, *reversed(parts)]) if isinstance(target, ast.Name) else ""


def texts_in(node: ast.AST) -> Iterator[str]:
    """All texts that are written out in a node."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


__all__ = [
    "Import",
    "PACKAGE",
    "ROOT",
    "SOURCE",
    "called_name",
    "imports_of",
    "modules_of",
    "package_of",
    "parse",
    "texts_in",
]
