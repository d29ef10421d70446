"""Read documents and names that somebody else wrote: as data, within bounds, with an error that names the file."""

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from transformers_llava.artifacts.limits import (
    MAX_DOCUMENT_DEPTH,
    MAX_JSON_BYTES,
    MAX_NAME_LENGTH,
    MAX_YAML_BYTES,
    MAX_YAML_NODES,
)


_NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{MAX_NAME_LENGTH - 1}}}")
_KINDS: dict[type, str] = {dict: "a mapping", list: "a list"}


class DocumentError(ValueError):
    """A file is no document of its kind, or a name in it cannot be used; names the file and says why."""


def read_json(path: str | Path, *, kind: type | tuple[type, ...] = dict) -> Any:
    """
    Read a JSON file of at most `MAX_JSON_BYTES`.

    Args:
        path (`str` or `Path`): The file.
        kind (`type` or a tuple of them, *optional*, defaults to `dict`): What must stand at the top.

    Raises:
        `FileNotFoundError`: there is no such file; every other fault is a `DocumentError`.
        `DocumentError`: the file is too large, no UTF-8, no JSON, nested too deeply, or something else than `kind`.
    """
    return parse_json(read_bytes(path, MAX_JSON_BYTES), str(path), kind=kind)


def parse_json(text: str | bytes, name: str, *, kind: type | tuple[type, ...] = dict) -> Any:
    """`read_json` of a text; `name` says in errors where it came from."""
    try:
        value = json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{name!r} is not JSON: {_reason(error)}.") from error
    return _checked(value, name, kind)


def read_yaml(
    path: str | Path, *, kind: type | tuple[type, ...] = dict, loader: type[yaml.SafeLoader] = yaml.SafeLoader
) -> Any:
    """
    Read a YAML file of at most `MAX_YAML_BYTES`: plain data only, and aliases that do not multiply.

    Args:
        path (`str` or `Path`): The file.
        kind (`type` or a tuple of them, *optional*, defaults to `dict`): What must stand at the top;
            `type(None)` where the file may be empty.
        loader (`type`, *optional*): What reads plain values, such as a `SafeLoader` to which `1e-3` is a number.

    Raises:
        `FileNotFoundError`: there is no such file; every other fault is a `DocumentError`.
        `DocumentError`: the file is too large, no UTF-8, no YAML, nested too deeply, or something else than `kind`.
    """
    return parse_yaml(read_bytes(path, MAX_YAML_BYTES), str(path), kind=kind, loader=loader)


def parse_yaml(
    text: str | bytes,
    name: str,
    *,
    kind: type | tuple[type, ...] = dict,
    loader: type[yaml.SafeLoader] = yaml.SafeLoader,
) -> Any:
    """`read_yaml` of a text; `name` says in errors where it came from."""
    try:
        reader = loader(text if isinstance(text, str) else text.decode("utf-8"))
        try:
            node = reader.get_single_node()
            if node is not None and _num_nodes(node, {}, 0) > MAX_YAML_NODES:
                raise DocumentError(
                    f"{name!r} stands for more than {MAX_YAML_NODES:,} values once its aliases are written out. It is "
                    "not read; write the values without aliases."
                )
            value = None if node is None else reader.construct_document(node)
        finally:
            reader.dispose()
    except DocumentError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # ValueError: such as a month 13
        raise DocumentError(f"{name!r} is not YAML: {_reason(error)}.") from error
    return _checked(value, name, kind)


def checked_name(value: Any, what: str) -> str:
    """
    Return `value` if it can be one part of a path on every system: letters, digits, `_`, `-` and inner dots.

    Raises:
        `DocumentError`: it is no such name; `what` says whose name it was to be.
    """
    if not isinstance(value, str) or not _NAME.fullmatch(value) or value.endswith("."):
        raise DocumentError(
            f"{what} is {_shown(value)}, which cannot be a name: at most {MAX_NAME_LENGTH} letters, digits, '_', '-' "
            "and '.', the first one no dot. Nothing is read from or written to such a path."
        )
    return value


def path_inside(root: str | Path, relative: Any, what: str) -> Path:
    """
    Return `root / relative`, a path that stays below `root`, also through symbolic links.

    Args:
        root (`str` or `Path`): The folder that must not be left.
        relative (`Any`): What a document says: POSIX form, as it stands on the Hub.
        what (`str`): Whose path it is, for the error.

    Raises:
        `DocumentError`: it is absolute, goes up, has a drive, a backslash or a control character, or leaves `root`.
    """
    plain = isinstance(relative, str) and 0 < len(relative) <= 4096 and not re.search(r"[\x00-\x1f\\]", relative)
    parts = PurePosixPath(relative).parts if plain else ()
    if not parts or parts[0] == "/" or ".." in parts or re.match(r"[A-Za-z]:", relative):
        raise DocumentError(f"{what} is {_shown(relative)}, which is not a path inside the folder. It is not opened.")
    root = Path(root)
    path = root.joinpath(*parts)
    try:
        is_inside = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:  # a loop of links, a name that the file system does not take
        raise DocumentError(f"{what} is {_shown(relative)}, which cannot be followed: {_reason(error)}.") from error
    if not is_inside:
        raise DocumentError(f"{what} is {_shown(relative)}, a link that leads out of the folder. It is not opened.")
    return path


def read_bytes(path: str | Path, limit: int) -> bytes:
    """
    Read a file of at most `limit` bytes.

    Raises:
        `FileNotFoundError`: there is no such file; every other fault is a `DocumentError`.
        `DocumentError`: it is larger, or cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(limit + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # a folder, no permission, a null byte in the name
        raise DocumentError(f"{str(path)!r} cannot be read: {_reason(error)}.") from error
    if len(content) > limit:
        raise DocumentError(
            f"{str(path)!r} is larger than {limit / 2**20:.0f} MiB, the most that is read of such a file."
        )
    return content


def _num_nodes(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """Values that a node stands for; an alias counts as often as it is used, but is walked once."""
    if depth > MAX_DOCUMENT_DEPTH:
        raise RecursionError(f"it is nested more than {MAX_DOCUMENT_DEPTH} levels deep, or contains itself")
    if id(node) in known:
        return known[id(node)]
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    known[id(node)] = 1 + sum(_num_nodes(child, known, depth + 1) for child in children)
    return known[id(node)]


def _checked(value: Any, name: str, kind: type | tuple[type, ...]) -> Any:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds):
        wanted = " or ".join(_KINDS.get(one, "nothing" if one is type(None) else one.__name__) for one in kinds)
        raise DocumentError(f"{name!r} holds {_shown(value)} where {wanted} is expected.")
    level, depth = [value], 0
    while level := [child for one in level for child in _children(one)]:
        depth += 1
        if depth > MAX_DOCUMENT_DEPTH:
            raise DocumentError(f"{name!r} is nested more than {MAX_DOCUMENT_DEPTH} levels deep. It is not read.")
    return value


def _children(value: Any) -> list[Any]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [child for child in children if isinstance(child, dict | list)]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{text[:200]} ({type(error).__name__})"


__all__ = [
    "DocumentError",
    "checked_name",
    "parse_json",
    "parse_yaml",
    "path_inside",
    "read_bytes",
    "read_json",
    "read_yaml",
]
