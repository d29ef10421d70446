"""A built mixture to `mixture.lock.json`, and two locks to the differences between them in words.

A lock says what was really used: it holds no path and no time, so the same content gives the same lock anywhere.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers_llava.data.mixture import MixtureConfig
from transformers_llava.data.reports import MixtureReport


LOCK_NAME = "mixture.lock.json"

_VERSION = 1
_AMOUNTS = ("num_examples", "weight", "sampling", "seed")
_STATED = ("licence", "licence_url", "provenance", "revision", "split", "format", "duplicate_ids")
_COUNTED = ("num_read", "num_kept", "num_used", "num_repeated_ids", "num_images", "digest", "digest_covers")


def make_lock(
    config: MixtureConfig, report: MixtureReport, *, tokens_of_source: dict[str, int] | None = None
) -> dict[str, Any]:
    """
    Facts of a mixture as plain JSON types.

    Args:
        config (`MixtureConfig`), report (`MixtureReport`):
            What `build_mixture` was given and has returned.
        tokens_of_source (`dict`, *optional*):
            Tokens per source name, for proportions in tokens; see `count_tokens_of_sources`.
    """
    num_tokens = sum((tokens_of_source or {}).values())
    sources = []
    for source, counted in zip(config.sources, report.sources, strict=True):
        facts: dict[str, Any] = {"name": source.name}
        facts |= {name: value for name in _AMOUNTS + _STATED if (value := getattr(source, name)) is not None}
        facts |= {name: getattr(counted, name) for name in _COUNTED}
        facts |= {"dropped": dict(sorted(counted.dropped.items())), "notes": dict(sorted(counted.notes.items()))}
        facts["proportion"] = report.proportion(counted)
        if tokens_of_source is not None:
            facts["num_tokens"] = tokens_of_source.get(source.name, 0)
            facts["proportion_of_tokens"] = facts["num_tokens"] / num_tokens if num_tokens else 0.0
        sources.append(facts)
    return {
        "version": _VERSION,
        "seed": config.seed,
        "row_order": config.row_order,
        "num_used": report.num_used,
        "digest": report.digest,
        "order_digest": report.order_digest,
        "sources": sources,
    }


def count_tokens_of_sources(sources: Sequence[str], num_tokens: Sequence[int]) -> dict[str, int]:
    """Tokens per source, from the `source` column of a data set and the lengths of its rows."""
    totals: dict[str, int] = {}
    for source, tokens in zip(sources, num_tokens, strict=True):
        totals[source] = totals.get(source, 0) + tokens
    return totals


def write_lock(lock: dict[str, Any], folder: str | Path) -> Path:
    path = Path(folder) / LOCK_NAME
    path.write_text(json.dumps(lock, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read_lock(path: str | Path) -> dict[str, Any]:
    """Raises `ValueError` for a file that is no lock of ours."""
    path = Path(path)
    if path.is_dir():
        path = path / LOCK_NAME
    try:
        lock = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"there is no lock at {str(path)!r}. Nothing can be compared with it.") from error
    except ValueError as error:
        raise ValueError(
            f"the lock {str(path)!r} is not JSON ({error}). Take it from where the mixture was published."
        ) from error
    if not isinstance(lock, dict) or lock.get("version") != _VERSION:
        version = lock.get("version") if isinstance(lock, dict) else None
        raise ValueError(f"the lock {str(path)!r} has version {version!r}; this program reads version {_VERSION}.")
    return lock


def compare_locks(recorded: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """
    What is different, source by source; an empty list means: the same examples, in the same order.

    ```python
    >>> compare_locks({**lock, "seed": 0}, {**lock, "seed": 1})
    ['the seed was 0 and is 1']
    ```
    """
    differences = [
        f"the {name.replace('_', ' ')} was {recorded[name]} and is {current[name]}"
        for name in ("seed", "row_order")
        if recorded[name] != current[name]
    ]
    before = {source["name"]: source for source in recorded["sources"]}
    after = {source["name"]: source for source in current["sources"]}
    differences += [f"source {name!r} is missing" for name in before if name not in after]
    differences += [f"source {name!r} is new" for name in after if name not in before]
    for name in before:
        if name in after:
            differences += [f"source {name!r}: {what}" for what in _compare_sources(before[name], after[name])]
    if not differences and recorded["order_digest"] != current["order_digest"]:
        differences.append(
            "the content is the same, but the rows stand in another order, so training would see them in another "
            "order too; `row_order: content` makes the order depend on the content alone"
        )
    return differences


def _compare_sources(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    differences = []
    for name in ("num_read", "num_kept", "num_used", "num_images", *_AMOUNTS, *_STATED):
        if before.get(name) != after.get(name):
            differences.append(f"{name} was {before.get(name)} and is {after.get(name)}")
    for reason in sorted({*before["dropped"], *after["dropped"]}):
        was, now = before["dropped"].get(reason, 0), after["dropped"].get(reason, 0)
        if was != now:
            differences.append(f"{now} records are dropped as {reason}, not {was}")
    if before["digest_covers"] != after["digest_covers"]:
        differences.append(f"the digest covered {before['digest_covers']} and covers {after['digest_covers']}")
    elif before["digest"] != after["digest"]:
        differences.append(
            f"its {before['digest_covers']} are not what they were ({_short(before)} -> {_short(after)})"
        )
    return differences


def _short(source: dict[str, Any]) -> str:
    return source["digest"].removeprefix("sha256:")[:12]


__all__ = ["LOCK_NAME", "compare_locks", "count_tokens_of_sources", "make_lock", "read_lock", "write_lock"]
