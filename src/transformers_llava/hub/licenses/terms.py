"""Read a license as people write it: expressions, aliases, and the table of terms."""

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from license_expression import ExpressionError, Licensing, get_spdx_licensing

from transformers_llava.artifacts.limits import MAX_LICENSE_STATEMENT


VERDICTS = ("yes", "conditional", "unclear", "no")  # of commercial use, from free to forbidden
UNKNOWN = "LicenseRef-Unknown"
NON_COMMERCIAL = "LicenseRef-NonCommercial"


@dataclass(frozen=True)
class Terms:
    """
    What a statement of a license comes to.

    Args:
        expression (`str`): The SPDX expression that was understood.
        commercial (`str`): yes, conditional, unclear or no.
        keys (`tuple[str, ...]`): The licenses that apply; of a choice (`OR`) the freest.
        problem (`str`, *optional*): What was not understood.
    """

    expression: str
    commercial: str
    keys: tuple[str, ...]
    problem: str | None = None


@functools.cache
def table() -> dict[str, Any]:
    """The facts of `terms.yaml`."""
    path = Path(__file__).parent / "terms.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    for term in [*values["terms"].values(), *values["teachers"].values()]:
        if isinstance(term.get("commercial"), bool):  # YAML 1.1 reads yes and no so
            term["commercial"] = "yes" if term["commercial"] else "no"
    return values


def read_terms(statement: str | None) -> Terms:
    """
    What a stated license asks for. Nothing stated, or nothing understood, is unknown, and unknown is never free.

    What follows a license and is not understood counts too: `Apache-2.0, for our friends` is Apache-2.0 and something
    unknown, and words that forbid commercial use do so wherever they stand.

    ```python
    >>> [read_terms(text).commercial for text in ("CC-BY-4.0", "Apache-2.0 OR CC-BY-NC-4.0", None)]
    ['yes', 'yes', 'unclear']
    >>> read_terms("Apache-2.0, non-commercial use only").expression
    'Apache-2.0 AND LicenseRef-NonCommercial'
    ```
    """
    text = " ".join(str(statement or "unknown").split())
    if len(text) > MAX_LICENSE_STATEMENT:
        return Terms(UNKNOWN, "unclear", (UNKNOWN,), f"{text[:60]!r}... is too long to be a license expression")
    parsed, rest = _longest_understood(text)
    if rest and _is_non_commercial(rest):
        return _with_rest(parsed, NON_COMMERCIAL, None)
    if parsed is None:
        return Terms(UNKNOWN, "unclear", (UNKNOWN,), f"{text!r} is no license expression that is understood")
    if rest and not _is_remark(rest):
        return _with_rest(parsed, UNKNOWN, f"in {text!r}, what {rest.strip(' ,;:')!r} means is not understood")
    commercial, keys = _evaluate(parsed)
    without_rule = [key for key in keys if key not in table()["terms"]]
    problem = f"there is no rule for {', '.join(without_rule)}" if without_rule else None
    return Terms(parsed.render(), commercial, tuple(keys), problem)


def _with_rest(parsed: Any, key: str, problem: str | None) -> Terms:
    """A license and what is said beside it: both apply."""
    commercial, keys = _evaluate(parsed) if parsed is not None else ("yes", [])
    parts = [parsed.render()] if parsed is not None else []
    if parsed is not None and isinstance(parsed, _licensing().OR):
        parts = [f"({parts[0]})"]
    expression = " AND ".join(dict.fromkeys([*parts, key]))
    return Terms(expression, worst([commercial, _commercial(key)]), tuple(dict.fromkeys([*keys, key])), problem)


def _longest_understood(text: str) -> tuple[Any, str]:
    """The longest beginning that is an expression or a name of a license, and what follows it."""
    for alias in table()["aliases"]:
        found = re.match(rf"(?:{alias['name']})(?!\.?\w)", text, re.IGNORECASE) if alias.get("and_more") else None
        if found is not None:
            rest = text[found.end() :]
            return _parsed(alias["license"]), rest if _is_non_commercial(rest) else ""
    ends = [len(text), *(match.start() for match in reversed(list(re.finditer(r"[\s,;:()<]|\.$", text))))]
    for end in ends:
        name = text[:end].strip()
        parsed = _parsed(_named(name) or name) if name else None
        if parsed is not None:
            return parsed, text[end:].strip()
    return None, text


def _named(name: str) -> str | None:
    """The key of a license whose name is written out."""
    for alias in table()["aliases"]:
        if re.fullmatch(alias["name"], name, re.IGNORECASE):
            return alias["license"]
    found = _CREATIVE_COMMONS.fullmatch(name)
    if found is None:
        return None
    kind = "".join(f"-{part}" for part, group in (("NC", "nc"), ("SA", "sa"), ("ND", "nd")) if found[group])
    if found["version"] is None:
        return NON_COMMERCIAL if found["nc"] else None  # which version is not said, that it forbids is
    version = found["version"] if "." in found["version"] else f"{found['version']}.0"
    return f"CC-BY{kind}-{version}"


_CREATIVE_COMMONS = re.compile(
    r"(?:creative commons |cc[ _-]?)?(?:by|attribution)"
    r"(?P<nc>[ _-]*(?:nc|non-?commercial))?(?:[ _-]*(?:(?P<sa>sa|share-?alike)|(?P<nd>nd|no-?deriv(?:ative)?s?)))?"
    r"(?:[ _-]*v?(?P<version>[1-4](?:\.\d)?))?"
    r"(?:[ _-](?:international|unported|generic|intl))?(?: public)?(?: licen[sc]e)?",
    re.IGNORECASE,
)


def _is_non_commercial(text: str) -> bool:
    pattern = re.sub(r"\|\s+", "|", table()["non_commercial"].strip())
    return re.search(pattern, text, re.IGNORECASE) is not None


def _is_remark(rest: str) -> bool:
    return re.fullmatch(rf"(?:\s*(?:{'|'.join(table()['remarks'])}))*\s*", rest, re.IGNORECASE) is not None


def worst(verdicts: list[str]) -> str:
    """The strictest."""
    return max(verdicts, key=VERDICTS.index, default="yes")


def _commercial(key: str) -> str:
    return table()["terms"].get(key, {}).get("commercial", "unclear")


@functools.cache
def _licensing() -> Licensing:
    return get_spdx_licensing()


def _parsed(text: str) -> Any:
    try:
        found = _licensing().parse(text, validate=False)
    except (ExpressionError, RecursionError, TypeError, AttributeError):  # of parentheses that do not close, or nest
        return None
    known = found is not None and all(
        key in _licensing().known_symbols or key in table()["terms"] for key in _licensing().license_keys(found)
    )
    return found if known else None


def _evaluate(parsed: Any) -> tuple[str, list[str]]:
    """All of an AND apply, the strictest decides; of an OR a user may choose, so the freest does."""
    if isinstance(parsed, _licensing().OR):
        return min((_evaluate(one) for one in parsed.args), key=lambda found: VERDICTS.index(found[0]))
    if isinstance(parsed, _licensing().AND):
        found = [_evaluate(one) for one in parsed.args]
        return worst([verdict for verdict, _ in found]), [key for _, keys in found for key in keys]
    (key,) = _licensing().license_keys(parsed)[:1]
    return _commercial(key), [key]


__all__ = ["NON_COMMERCIAL", "Terms", "UNKNOWN", "VERDICTS", "read_terms", "table", "worst"]
