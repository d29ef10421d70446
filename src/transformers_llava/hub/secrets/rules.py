"""Find secrets and private paths in a text, by the table of `rules.yaml`."""

import functools
import getpass
import math
import re
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml


@dataclass(frozen=True)
class Rule:
    """
    What is looked for.

    Args:
        kind (`str`): What it is, as people call it.
        pattern (`re.Pattern`): Finds it; its group, where there is one, is the secret itself.
        words (`tuple[str, ...]`): One of them stands in every match, in lower case: only around them is the pattern
            tried, which makes a gigabyte of text bearable.
        is_secret (`bool`): A secret, of which no more than the beginning is shown; else a path or a name.
        in_data (`bool`): Also looked for in what people write and tokenizers know: texts of data, vocabularies.
        entropy (`float`): Bits per character that the secret must have.
        with_digit (`bool`): The secret must have a letter and a digit.
    """

    kind: str
    pattern: re.Pattern[str]
    words: tuple[str, ...]
    is_secret: bool = True
    in_data: bool = True
    entropy: float = 0.0
    with_digit: bool = False


@dataclass(frozen=True)
class Match:
    """A rule that applies at `start` of a text, and what of it may be shown."""

    start: int
    kind: str
    excerpt: str


_BEFORE, _AFTER = 160, 1024  # characters around a word in which its pattern is tried
_EXCERPT = 60
_TOO_COMMON = {
    *("root", "user", "admin", "ubuntu", "localhost", "runner", "build", "app", "main", "model", "data", "test"),
}


@functools.cache
def load_rules() -> tuple[Rule, ...]:
    """The packaged table."""
    text = Path(__file__).with_name("rules.yaml").read_text(encoding="utf-8")
    return tuple(
        Rule(
            **{
                **one,
                "pattern": re.compile(one["pattern"]),
                "words": tuple(str(word).lower() for word in one["words"]),
            }
        )
        for one in yaml.safe_load(text)["rules"]
    )


def own_names() -> dict[str, str]:
    """The host and the user of this machine, where their names are telling enough to be looked for."""
    found = {"the name of this machine": socket.gethostname()}
    try:
        found["the name of its user"] = getpass.getuser()
    except (OSError, KeyError):  # a container without an entry for its user
        pass
    return {kind: name for kind, name in found.items() if len(name) >= 4 and name.lower() not in _TOO_COMMON}


def name_rules() -> tuple[Rule, ...]:
    """`own_names` as rules; in data and vocabularies they are words like others."""
    return tuple(
        Rule(kind, re.compile(rf"(?<!\w){re.escape(name)}(?!\w)"), (name.lower(),), is_secret=False, in_data=False)
        for kind, name in own_names().items()
    )


def find(text: str, rules: Sequence[Rule]) -> Iterator[Match]:
    """Every place of a text at which a rule applies; two rules of one kind at one place count once."""
    lower = text.lower()
    if len(lower) != len(text):  # a few capital letters have a lower case of two characters
        lower = "".join(one if len(one.lower()) != 1 else one.lower() for one in text)
    seen: set[tuple[str, int]] = set()
    places = _places(lower, tuple(dict.fromkeys(word for rule in rules for word in rule.words)))
    for rule in rules:
        for start, end in _windows([place for word in rule.words for place in places.get(word, ())], len(text)):
            for match in rule.pattern.finditer(text, start, end):
                if (rule.kind, match.start()) not in seen and _counts(rule, match):
                    seen.add((rule.kind, match.start()))
                    yield Match(match.start(), rule.kind, _excerpt(rule, match))


def _places(lower: str, words: tuple[str, ...]) -> dict[str, list[int]]:
    """
    Where each word stands. The 300 words are looked for together, by their first three letters: one search for each
    would take a second for a megabyte.
    """
    places: dict[str, list[int]] = {}
    table, by_start, short = _starts(words)
    codes = np.frombuffer(lower.encode("latin-1", errors="replace"), np.uint8).astype(np.uint32)  # as long as the text
    if len(codes) >= 3:
        starts = (codes[:-2] << 16) | (codes[1:-1] << 8) | codes[2:]
        found = np.flatnonzero(table[starts])
        for place, start in zip(found.tolist(), starts[found].tolist(), strict=True):
            for word in by_start[start]:
                if lower.startswith(word, place):
                    places.setdefault(word, []).append(place)
    for word in short:
        place = lower.find(word)
        while place >= 0:
            places.setdefault(word, []).append(place)
            place = lower.find(word, place + 1)
    return places


@functools.lru_cache(maxsize=4)
def _starts(words: tuple[str, ...]) -> tuple["np.ndarray[Any, Any]", dict[int, list[str]], list[str]]:
    """Whether three letters begin a word, as a table of all of them; the words that they begin; and shorter words."""
    by_start: dict[int, list[str]] = {}
    short = []
    for word in words:
        if len(word) < 3 or not word[:3].isascii():
            short.append(word)
        else:
            by_start.setdefault(int.from_bytes(word[:3].encode(), "big"), []).append(word)
    table = np.zeros(2**24, dtype=bool)
    table[list(by_start)] = True
    return table, by_start, short


def _windows(places: list[int], length: int) -> list[tuple[int, int]]:
    """Stretches around places, those that overlap joined: no character is looked at twice."""
    windows: list[tuple[int, int]] = []
    for place in sorted(places):
        start, end = max(0, place - _BEFORE), min(length, place + _AFTER)
        if windows and start <= windows[-1][1]:
            windows[-1] = (windows[-1][0], end)
        else:
            windows.append((start, end))
    return windows


# What stands where a secret would, in examples and templates.
_STANDS_FOR = re.compile(
    r"(?i)example|placeholder|change.?me|your[_-]|redacted|dummy|x{6}|\*{3}|\.\.\.|[<>{}]|^\$|^%|^(?:none|null|true|false)$"
)


def _counts(rule: Rule, match: re.Match[str]) -> bool:
    if not rule.is_secret:
        return True
    secret = next((group for group in match.groups() if group), match.group())
    if _STANDS_FOR.search(secret):
        return False
    if rule.with_digit and not (re.search(r"\d", secret) and re.search(r"[A-Za-z]", secret)):
        return False
    return entropy(secret) >= rule.entropy


def entropy(text: str) -> float:
    """Bits per character of a text, from its own letters: `aaaa` has 0, `abcd` 2."""
    counts = Counter(text).values()
    return sum(-count / len(text) * math.log2(count / len(text)) for count in counts)


def _excerpt(rule: Rule, match: re.Match[str]) -> str:
    if rule.is_secret:
        return match.group().strip()[:8] + "..."
    return " ".join(match.group().split())[:_EXCERPT]


__all__ = ["Match", "Rule", "entropy", "find", "load_rules", "name_rules", "own_names"]
