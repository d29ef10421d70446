"""Mutate a publication by a seed: bytes, names, links, and the values of its JSON and YAML documents."""

import copy
import json
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from tests.hub.publications import replace


VALUES: list[Any] = [
    *(None, True, -1, 0, 10**30, 1e308, math.nan, math.inf, "", "x", "\x00", "../../outside", "/etc/hostname"),
    *("http://127.0.0.1:9/x", "hf://datasets/me/x", "a\nb", "\x1b[2K", [], {}, [[]], [None], {"x": {}}, [1, 2, 3]),
]
ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)
TEXTS = ["[" * 100_000, "{" * 5_000, ALIASES, "null", "[]", "5", "\ufeff{}", "---\n---\n", "a: b: c", '{"a": NaN}']


def mutate(folder: Path, rng: random.Random) -> str:
    """Changes one thing in a linked copy of a publication; returns what, for a message."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = rng.choice(files)
    documents = [one for one in files if one.suffix in (".json", ".yaml", ".yml")]
    if rng.random() < 0.5:
        path = rng.choice([*documents, *([folder / "run.json"] * 8), *([folder / "manifest.json"] * 3)])
        change = rng.choice([change_value, change_value, change_value, change_value, other_text, flip])
    else:
        change = rng.choice(
            [flip, flip, truncate, empty, delete, rename, duplicate, exchange, link, other_text, append]
        )
    return f"{change.__name__} {path.relative_to(folder).as_posix()} {change(path, rng, folder)}"


def flip(path: Path, rng: random.Random, folder: Path) -> str:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 3, 20])):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    replace(path, bytes(data))
    return ""


def truncate(path: Path, rng: random.Random, folder: Path) -> str:
    data = path.read_bytes()
    replace(path, data[: rng.randrange(len(data) + 1)])
    return ""


def empty(path: Path, rng: random.Random, folder: Path) -> str:
    replace(path, b"")
    return ""


def append(path: Path, rng: random.Random, folder: Path) -> str:
    replace(path, path.read_bytes() + rng.choice([b"\n", b"\xff\xfe", b"{}", b"<!-- llava:begin usage -->\nx"]))
    return ""


def delete(path: Path, rng: random.Random, folder: Path) -> str:
    path.unlink()
    return ""


def rename(path: Path, rng: random.Random, folder: Path) -> str:
    name = rng.choice(["x.md", "x.py", "vocab.txt", "a\nb", ".cache/x", "recipe/data/x.png", path.name.upper()])
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    path.rename(folder / name)
    return repr(name)


def duplicate(path: Path, rng: random.Random, folder: Path) -> str:
    name = rng.choice(["x.md", "x.safetensors", "merges.txt", "x.index.json", "recipe/x.yaml", "recipe/data/y.json"])
    replace(folder / name, path.read_bytes())
    return repr(name)


def exchange(path: Path, rng: random.Random, folder: Path) -> str:
    other = rng.choice(sorted(one for one in folder.rglob("*") if one.is_file()))
    ours, theirs = path.read_bytes(), other.read_bytes()
    replace(path, theirs)
    replace(other, ours)
    return other.name


def link(path: Path, rng: random.Random, folder: Path) -> str:
    target = rng.choice(["/etc/hostname", "../../../../etc/hostname", "nowhere", path.name, "/dev/zero", "/etc"])
    path.unlink()
    path.symlink_to(target)
    return target


def other_text(path: Path, rng: random.Random, folder: Path) -> str:
    text = rng.choice(TEXTS)
    replace(path, text)
    return repr(text[:10])


def change_value(path: Path, rng: random.Random, folder: Path) -> str:
    """One value of a document: deleted, of another type, huge, deep, or doubled."""
    read: Callable[[str], Any] = json.loads if path.suffix == ".json" else yaml.safe_load
    values = copy.deepcopy(read(path.read_text()))
    places = list(_places(values))
    if not places:
        return other_text(path, rng, folder)
    holder, key = rng.choice(places)
    what = rng.choice(["delete", "value", "value", "value", "deep", "rename", "twice"])
    if what == "delete":
        del holder[key]
    elif what == "deep":
        value: Any = 1
        for _ in range(rng.choice([70, 300])):
            value = [value]
        holder[key] = value
    elif what == "rename" and isinstance(holder, dict):
        holder[rng.choice(["x", "../x", "name", "path"])] = holder.pop(key)
    elif what == "twice" and isinstance(holder[key], list):
        holder[key] = holder[key] * 2
    else:
        holder[key] = copy.deepcopy(rng.choice(VALUES))
    write: Callable[[Any], str] = json.dumps if path.suffix == ".json" else yaml.safe_dump
    replace(path, write(values))
    return f"{key!r} {what}"


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every holder and key of a document."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


__all__ = ["mutate"]
