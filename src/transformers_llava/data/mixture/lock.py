"""Write what a mixture was made of into `mixture.lock.json`, and tell two locks apart in words.

A lock says what was really used: it holds no path and no time, so the same content gives the same lock anywhere.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers_llava.artifacts.old_spellings import with_new_spellings
from transformers_llava.artifacts.untrusted import DocumentError, read_json
from transformers_llava.data.cache import write_whole
from transformers_llava.data.mixture.config import AMOUNTS, MixtureConfig
from transformers_llava.data.reports import LengthReport, MixtureReport


LOCK_NAME = "mixture.lock.json"

_VERSION = 1
_AMOUNTS = (*AMOUNTS, "seed")
_STATED = (
    *("license", "license_url", "license_revision", "provenance", "teacher", "teacher_terms"),
    *("revision", "split", "format", "duplicate_ids"),
)
_TOTALS = ("num_read", "num_kept", "num_used", "num_repeated_ids", "num_images")
_COUNTED = (*_TOTALS, "digest", "digest_covers")
_MEASURED = ("max_length", "too_long", "num_examples", "num_tokens", "num_truncated")


def make_lock(
    config: MixtureConfig,
    report: MixtureReport,
    *,
    tokens_of_source: dict[str, int] | None = None,
    lengths: LengthReport | None = None,
) -> dict[str, Any]:
    """
    Facts of a mixture as plain JSON types.

    Args:
        config (`MixtureConfig`), report (`MixtureReport`):
            What `build_mixture` was given and has returned.
        tokens_of_source (`dict`, *optional*):
            Tokens per source name, for proportions in tokens; see `count_tokens_of_sources`.
        lengths (`LengthReport`, *optional*):
            What `measure_examples` has left out of the mixture; a mixture with token budgets needs it.

    Raises:
        `ValueError`: a source has a token budget and nothing has drawn by it.
    """
    undrawn = sorted(set(config.token_budgets) - set(lengths.beyond_budget if lengths is not None else ()))
    if undrawn:
        raise ValueError(
            f"the sources {undrawn} have a token budget (`num_tokens`), but the examples were not drawn by it, so the "
            "lock would be wrong. Pass `token_budgets=config.token_budgets` to `measure_examples` and its report here."
        )
    num_tokens = sum((tokens_of_source or {}).values())
    sources = []
    for source, counted in zip(config.sources, report.sources, strict=True):
        facts: dict[str, Any] = {"name": source.name}
        facts |= {name: value for name in _AMOUNTS + _STATED if (value := getattr(source, name)) is not None}
        facts |= {name: getattr(counted, name) for name in _COUNTED}
        facts |= {name: dict(sorted(getattr(counted, name).items())) for name in ("dropped", "filtered", "notes")}
        if source.filters is not None:
            facts["filters"] = source.filters.to_dict()
        if source.parts:  # what was published about the file; `compare_with_published` holds it against the counts
            parts = [asdict(part) for part in source.parts]
            facts["parts"] = [{name: value for name, value in part.items() if value is not None} for part in parts]
        if lengths is not None and source.name in lengths.beyond_budget:
            facts["num_beyond_budget"] = lengths.beyond_budget[source.name]
        facts["proportion"] = report.proportion(counted)
        if tokens_of_source is not None:
            facts["num_tokens"] = tokens_of_source.get(source.name, 0)
            facts["proportion_of_tokens"] = facts["num_tokens"] / num_tokens if num_tokens else 0.0
        sources.append(facts)
    measured = {}
    if lengths is not None:
        facts_of_lengths = (*_MEASURED, "rows_digest")
        measured["lengths"] = {name: getattr(lengths, name) for name in facts_of_lengths}
        measured["lengths"]["dropped"] = dict(sorted(lengths.dropped.items()))
    return {
        "version": _VERSION,
        "seed": config.seed,
        "row_order": config.row_order,
        "num_used": report.num_used,
        "digest": report.digest,
        "order_digest": report.order_digest,
        "sources": sources,
        **measured,
    }


def count_tokens_of_sources(sources: Sequence[str], num_tokens: Sequence[int]) -> dict[str, int]:
    """Tokens per source, from the `source` column of a data set and the lengths of its rows."""
    totals: dict[str, int] = {}
    for source, tokens in zip(sources, num_tokens, strict=True):
        totals[source] = totals.get(source, 0) + tokens
    return totals


def write_lock(lock: dict[str, Any], folder: str | Path) -> Path:
    """Writes the lock into a folder, all of it or nothing, and returns its path."""
    path = Path(folder) / LOCK_NAME
    text = json.dumps(lock, indent=2, ensure_ascii=False) + "\n"
    write_whole(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))
    return path


def read_lock(path: str | Path) -> dict[str, Any]:
    """Raises `ValueError` for a file that is no lock of ours."""
    path = Path(path)
    if path.is_dir():
        path = path / LOCK_NAME
    try:
        lock = with_new_spellings(read_json(path, kind=(dict, list)), f"the lock {str(path)!r}")
    except FileNotFoundError as error:
        raise ValueError(f"there is no lock at {str(path)!r}. Nothing can be compared with it.") from error
    except DocumentError as error:
        raise ValueError(f"the lock cannot be read: {error} Take it from where the mixture was published.") from error
    return check_lock(lock, f"the lock {str(path)!r}")


def check_lock(lock: Any, what: str) -> dict[str, Any]:
    """
    Return `lock` if it has the form that `make_lock` gives, so that it can be compared.

    Raises:
        `ValueError`: with `what`, and the first field that is missing or of another type.
    """
    version = lock.get("version") if isinstance(lock, dict) else None
    if not isinstance(lock, dict) or version != _VERSION or isinstance(version, bool):
        raise ValueError(f"{what} has version {str(version)[:40]}; this program reads version {_VERSION}.")
    for fault in _faults_of(lock):
        raise ValueError(
            f"{what} is no lock that can be compared: {fault}. Take it from where the mixture was published."
        )
    return lock


def _faults_of(lock: dict[str, Any]) -> Iterator[str]:
    yield from _mistyped(lock, {"seed": int, "row_order": str, "num_used": int, "digest": str, "order_digest": str})
    sources = lock.get("sources")
    if not isinstance(sources, list) or not sources or not all(isinstance(one, dict) for one in sources):
        yield "`sources` is no list of blocks of fields"
        return
    names = [source.get("name") for source in sources]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        yield "its sources do not have one name each"
        return
    for source in sources:
        faults = _mistyped(source, {"digest": str, "digest_covers": str, **dict.fromkeys(_TOTALS, int)})
        yield from (f"source {source['name']!r}: {fault}" for fault in faults)
        for name in ("dropped", "filtered"):
            if not _is_count_by_reason(source.get(name, {})):
                yield f"source {source['name']!r}: `{name}` is no number by reason"
    lengths, measured = lock.get("lengths"), {*_MEASURED, "dropped", "rows_digest"}
    if lengths is not None and not (isinstance(lengths, dict) and measured <= lengths.keys()):
        yield f"`lengths` does not have {', '.join(sorted(measured))}"


def _mistyped(values: dict[str, Any], types: dict[str, type]) -> Iterator[str]:
    for name, kind in types.items():
        if type(values.get(name)) is not kind:
            there = "is missing" if name not in values else f"is {str(values[name])[:40]!r}"
            yield f"`{name}` {there}, and a {'number' if kind is int else 'text'} is expected"


def _is_count_by_reason(value: Any) -> bool:
    return isinstance(value, dict) and all(type(number) is int for number in value.values())


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
    differences += _compare_lengths(recorded.get("lengths"), current.get("lengths"))
    if not differences and recorded["order_digest"] != current["order_digest"]:
        differences.append(
            "the content is the same, but the rows stand in another order, so training would see them in another "
            "order too; `row_order: content` makes the order depend on the content alone"
        )
    return differences


def _compare_sources(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    differences = []
    counts = ("num_read", "num_kept", "num_used", "num_images", "num_beyond_budget")
    names = [*counts, *_AMOUNTS, "filters", *_STATED]
    if "proportion_of_tokens" not in before or "proportion_of_tokens" not in after:
        names.remove("num_tokens")  # of one of the two the tokens were not counted
    for name in names:
        if before.get(name) != after.get(name):
            differences.append(f"{name} was {before.get(name)} and is {after.get(name)}")
    for what, words in (("dropped", "are dropped as"), ("filtered", "do not pass the filter")):
        was_of, now_of = before.get(what, {}), after.get(what, {})
        for reason in sorted({*was_of, *now_of}):
            was, now = was_of.get(reason, 0), now_of.get(reason, 0)
            if was != now:
                differences.append(f"{now} records {words} {reason}, not {was}")
    if before["digest_covers"] != after["digest_covers"]:
        differences.append(f"the digest covered {before['digest_covers']} and covers {after['digest_covers']}")
    elif before["digest"] != after["digest"]:
        differences.append(
            f"its {before['digest_covers']} are not what they were ({_short(before)} -> {_short(after)})"
        )
    return differences


def _compare_lengths(before: dict[str, Any] | None, after: dict[str, Any] | None) -> list[str]:
    """Nothing where one of the two was not measured: content and order can still be compared."""
    if before is None or after is None:
        return []
    names = (*_MEASURED, "dropped")
    differences = [
        f"{name} was {before[name]} and is {after[name]}, of the examples as they are trained on"
        for name in names
        if before[name] != after[name]
    ]
    if not differences and before["rows_digest"] != after["rows_digest"]:
        differences.append("as many examples are trained on, but not the same ones (other tokenizer, or other seed)")
    return differences


def _short(source: dict[str, Any]) -> str:
    return source["digest"].removeprefix("sha256:")[:12]


__all__ = [
    "LOCK_NAME",
    "check_lock",
    "compare_locks",
    "count_tokens_of_sources",
    "make_lock",
    "read_lock",
    "write_lock",
]
