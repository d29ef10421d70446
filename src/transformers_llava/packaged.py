"""Names of packaged recipes and accelerate configurations to their files."""

import difflib
from pathlib import Path


_PACKAGE = Path(__file__).parent


class PackagedFileError(ValueError):
    """A name is neither a file nor a packaged one; offers the nearest."""


def list_recipes() -> list[str]:
    """Names such as `tiny/1_align`."""
    return _list("recipes")


def recipe_path(name_or_file: str) -> Path:
    """The file of a recipe, given as a file or by its packaged name."""
    return _find("recipes", name_or_file, "recipe")


def packaged_name(recipe: Path) -> str:
    """The name of a packaged recipe, such as `tiny/1_align`; of any other its path."""
    root = _PACKAGE / "recipes"
    inside = recipe.resolve().is_relative_to(root.resolve())
    return recipe.resolve().relative_to(root.resolve()).with_suffix("").as_posix() if inside else str(recipe)


def list_accelerate_configs() -> list[str]:
    """Names such as `cpu`."""
    return _list("accelerate_configs")


def accelerate_config_path(name_or_file: str) -> Path:
    """The file of an accelerate configuration, given as a file or by its packaged name."""
    return _find("accelerate_configs", name_or_file, "accelerate configuration")


def header_of(path: Path) -> list[str]:
    """The comment lines at the top of a file: what it is and how to run it."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    return lines


def _list(folder: str) -> list[str]:
    root = _PACKAGE / folder
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))


def _find(folder: str, name_or_file: str, kind: str) -> Path:
    packaged = _PACKAGE / folder / f"{name_or_file.removesuffix('.yaml')}.yaml"
    if Path(name_or_file).is_file():
        return Path(name_or_file)
    if packaged.is_file():
        return packaged
    names = _list(folder)
    near = difflib.get_close_matches(name_or_file, names, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Packaged are: {', '.join(names)}."
    raise PackagedFileError(f"{name_or_file!r} is neither a file nor a packaged {kind}. {hint}")


__all__ = [
    "PackagedFileError",
    "accelerate_config_path",
    "header_of",
    "list_accelerate_configs",
    "list_recipes",
    "packaged_name",
    "recipe_path",
]
