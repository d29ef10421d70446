"""A folder that is about to leave to what must not: tokens, keys, paths, the names of this machine and its user."""

import getpass
import json
import re
import socket
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    """
    Something that must not be published.

    Args:
        path (`str`): File, from the publication's folder on.
        line (`int`): Its line, from 1.
        kind (`str`): What it is.
        excerpt (`str`): Enough of it to find it; of a secret only its beginning.
    """

    path: str
    line: int
    kind: str
    excerpt: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.kind} ({self.excerpt})"


_SECRETS = {
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{20,}"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})"),
    "an OpenAI or Anthropic key": re.compile(r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{20,}"),
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "a Google key": re.compile(r"\bAIza[A-Za-z0-9_-]{35}"),
    "a Slack token": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    "a password in an address": re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@\"']+:[^\s/@\"']+@"),
    "a Weights & Biases key": re.compile(r"(?i)\bWANDB_API_KEY\W{1,4}[0-9a-f]{40}\b"),
}
# Folders in which people and machines keep their own things. Not `/usr/bin/env` or `/bin/sh`.
_PLACES = re.compile(
    r"(?<![\w.:/~-])(?:/(?:home|Users|root|tmp|mnt|data|scratch|work|workspace|opt|srv|media|private|var|nfs|gpfs|lustre)"
    r"(?:/[\w.+@%=-]+)+|~/[\w.+@%=-]+|[A-Za-z]:\\(?:[\w .+@%=-]+\\)+)"
)
_TOO_COMMON = {
    "root",
    "user",
    "admin",
    "ubuntu",
    "localhost",
    "runner",
    "build",
    "app",
    "main",
    "model",
    "data",
    "test",
}
# What people and programs did not write as text about this machine: texts of the data, words of a tokenizer.
_NOT_READ_FOR_NAMES = {"tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json"}
_BINARY = {
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".zip",
    ".tar",
    ".parquet",
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
    ".model",
    ".npz",
}
_PICKLES = {".bin", ".pt", ".pth"}
_EXCERPT = 60  # characters


def scan_folder(folder: str | Path) -> list[Finding]:
    """
    Looks into every file of a folder: texts line by line, of safetensors files the header, where programs leave notes.

    What comes from data files and tokenizers is read for secrets and not for names or places: a caption may well say
    `/home/page`, and it is what the publication is about.

    Args:
        folder (`str`): What would be uploaded.

    Returns:
        `list[Finding]`: in the order of files and lines; empty if it may leave.
    """
    folder = Path(folder)
    findings = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            findings += list(_scan_file(path, path.relative_to(folder).as_posix()))
    return findings


def _scan_file(path: Path, name: str) -> Iterator[Finding]:
    of_data = path.name in _NOT_READ_FOR_NAMES or name.startswith("recipe/data/")
    names = {} if of_data else own_names()
    for number, line in enumerate(_lines(path), start=1):
        for kind, pattern in _SECRETS.items():
            for match in pattern.finditer(line):
                yield Finding(name, number, kind, match.group()[:8] + "...")
        if of_data:
            continue
        for match in _PLACES.finditer(line):
            yield Finding(name, number, "a path of a machine", match.group()[:_EXCERPT])
        for kind, pattern in names.items():
            for match in pattern.finditer(line):
                start = max(0, match.start() - 20)
                yield Finding(name, number, kind, line[start : match.end() + 20].strip()[:_EXCERPT])


def own_names() -> dict[str, re.Pattern[str]]:
    """The host and the user of this machine, where their names are telling enough to be looked for."""
    found = {"the name of this machine": socket.gethostname()}
    try:
        found["the name of its user"] = getpass.getuser()
    except (OSError, KeyError):  # a container without an entry for its user
        pass
    return {
        kind: re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
        for kind, name in found.items()
        if len(name) >= 4 and name.lower() not in _TOO_COMMON
    }


def _lines(path: Path) -> Iterator[str]:
    if path.suffix == ".safetensors":
        yield from _header_notes(path)
    elif path.suffix in _PICKLES and zipfile.is_zipfile(path):
        yield from _pickled_words(path)
    elif path.suffix not in _BINARY:
        with path.open(encoding="utf-8", errors="replace") as file:
            yield from file


def _pickled_words(path: Path) -> Iterator[str]:
    """The part of a torch file that is no tensor, as text: settings, and with them places, are pickled there."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".pkl"):
                yield from archive.read(name).decode("latin-1").splitlines()


def _header_notes(path: Path) -> list[str]:
    """The free text in the header of a safetensors file, one line each."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(min(size, 100_000_000)))
    return [f"{key}: {value}" for key, value in header.get("__metadata__", {}).items()]


__all__ = ["Finding", "own_names", "scan_folder"]
