"""Find packaged files by kind and name: recipes, mixtures, accelerate configurations, chat templates, tasks."""

import difflib
from pathlib import Path
from typing import Literal, NamedTuple


Kind = Literal["recipe", "mixture", "accelerate_config", "chat_template", "task"]


class _Place(NamedTuple):
    """Where the files of a kind are, and what one of them is called in a message."""

    folder: str
    suffix: str
    noun: str


_PACKAGE = Path(__file__).parent
_PLACES: dict[Kind, _Place] = {
    "recipe": _Place("recipes", ".yaml", "recipe"),
    "mixture": _Place("mixtures", ".yaml", "mixture"),
    "accelerate_config": _Place("accelerate_configs", ".yaml", "accelerate configuration"),
    "chat_template": _Place("chat_templates", ".jinja", "chat template"),
    "task": _Place("tasks", ".yaml", "task"),
}


class PackagedFileError(ValueError):
    """A name is none of a packaged file; offers the nearest, and lists those that there are."""


def list_packaged(kind: Kind) -> list[str]:
    """Names of the packaged files of a kind, sorted: of recipes such as `tiny/1_align`, of mixtures such as `demo`."""
    place = _PLACES[kind]
    root = _PACKAGE / place.folder
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob(f"*{place.suffix}"))


def packaged_file(kind: Kind, name: str) -> Path:
    """
    The packaged file of that name, with or without its suffix; never a file outside of the folder of its kind.

    Raises:
        `PackagedFileError`: none has that name.
    """
    return _packaged(kind, name, "")


def file_or_packaged(kind: Kind, name_or_file: str | Path) -> Path:
    """
    A file of the user's, else the packaged one of that name.

    Raises:
        `PackagedFileError`: it is neither.
    """
    path = Path(name_or_file)
    return path if path.is_file() else _packaged(kind, str(name_or_file), "neither a file nor ")


def packaged_name(kind: Kind, path: Path) -> str:
    """The name of a packaged file, such as `tiny/1_align`; of any other its path."""
    root = (_PACKAGE / _PLACES[kind].folder).resolve()
    inside = path.resolve().is_relative_to(root)
    return path.resolve().relative_to(root).with_suffix("").as_posix() if inside else str(path)


def header_of(path: Path) -> list[str]:
    """The comment lines at the top of a file: what it is and how to run it."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    return lines


def _packaged(kind: Kind, name: str, also: str) -> Path:
    place, names = _PLACES[kind], list_packaged(kind)
    plain = name.removesuffix(place.suffix)
    if plain in names:  # compared with the names, so that `../` leads nowhere
        return _PACKAGE / place.folder / f"{plain}{place.suffix}"
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise PackagedFileError(
        f"{name!r} is {also or 'not '}a packaged {place.noun}. {hint}Packaged are: {', '.join(names) or 'none'}."
    )


__all__ = [
    "Kind",
    "PackagedFileError",
    "file_or_packaged",
    "header_of",
    "list_packaged",
    "packaged_file",
    "packaged_name",
]
