"""A licence as people write it to what it asks for: expressions, aliases, and the table of terms."""

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from license_expression import ExpressionError, Licensing, get_spdx_licensing


VERDICTS = ("yes", "conditional", "unclear", "no")  # of commercial use, from free to forbidden
UNKNOWN = "LicenseRef-Unknown"


@dataclass(frozen=True)
class Terms:
    """
    What a statement of a licence comes to.

    Args:
        expression (`str`): The SPDX expression that was understood.
        commercial (`str`): yes, conditional, unclear or no.
        keys (`tuple[str, ...]`): The licences that apply; of a choice (`OR`) the freest.
        problem (`str`, *optional*): What was not understood.
    """

    expression: str
    commercial: str
    keys: tuple[str, ...]
    problem: str | None = None


@functools.cache
def table() -> dict[str, Any]:
    """The facts of `licence_terms.yaml`."""
    path = Path(__file__).parent / "licence_terms.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    for term in [*values["terms"].values(), *values["teachers"].values()]:
        if isinstance(term.get("commercial"), bool):  # YAML 1.1 reads yes and no so
            term["commercial"] = "yes" if term["commercial"] else "no"
    return values


def read_terms(statement: str | None) -> Terms:
    """
    What a stated licence asks for. Nothing stated, or nothing understood, is unknown, and unknown is never free.

    ```python
    >>> [read_terms(text).commercial for text in ("CC-BY-4.0", "Apache-2.0 OR CC-BY-NC-4.0", None)]
    ['yes', 'yes', 'unclear']
    ```
    """
    text = (statement or "unknown").strip()
    for beginning, key in table()["aliases"]:
        if re.match(rf"{re.escape(beginning)}(?!\.?\w)", text, re.IGNORECASE):  # 3.2 is not 3
            return Terms(key, _commercial(key), (key,))
    words = text.partition(" (")[0].partition(",")[0].strip() if _parsed(text) is None else text
    parsed = _parsed(words)
    if parsed is None:
        return Terms(UNKNOWN, "unclear", (UNKNOWN,), f"{text!r} is no licence expression that is understood")
    commercial, keys = _evaluate(parsed)
    without_rule = [key for key in keys if key not in table()["terms"]]
    problem = f"there is no rule for {', '.join(without_rule)}" if without_rule else None
    return Terms(parsed.render(), commercial, tuple(keys), problem)


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
    except ExpressionError:
        return None
    known = found is not None and all(
        key in _licensing().known_symbols or key in table()["terms"] for key in _licensing().license_keys(found)
    )
    return found if known else None


def _evaluate(parsed: Any) -> tuple[str, list[str]]:
    """All of an AND apply, the strictest decides; of an OR a person may choose, so the freest does."""
    if isinstance(parsed, _licensing().OR):
        return min((_evaluate(one) for one in parsed.args), key=lambda found: VERDICTS.index(found[0]))
    if isinstance(parsed, _licensing().AND):
        found = [_evaluate(one) for one in parsed.args]
        return worst([verdict for verdict, _ in found]), [key for _, keys in found for key in keys]
    (key,) = _licensing().license_keys(parsed)[:1]
    return _commercial(key), [key]


__all__ = ["UNKNOWN", "VERDICTS", "Terms", "read_terms", "table", "worst"]
