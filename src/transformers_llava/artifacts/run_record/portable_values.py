"""Make values publishable: replace NaN, which JSON lacks, and shorten absolute paths, which name users."""

import math
import os
import re
from pathlib import Path
from typing import Any


def replace_non_finite(value: Any) -> Any:
    """
    Replace NaN and infinity, which JSON cannot express, by `null`, and name them in a field `not_finite` beside it.

    Args:
        value (`Any`): A JSON value, in which tuples stand for lists. In a list the value is lost: there is no field.

    Example:

    ```python
    >>> replace_non_finite({"step": 3, "loss": math.nan})
    {'step': 3, 'loss': None, 'not_finite': {'loss': 'nan'}}
    ```
    """
    if isinstance(value, dict):
        named = {key: str(one) for key, one in value.items() if _is_not_finite(one)}
        plain = {key: replace_non_finite(one) for key, one in value.items()}
        return {**plain, "not_finite": named} if named else plain
    if isinstance(value, list | tuple):
        return [replace_non_finite(one) for one in value]
    return None if _is_not_finite(value) else value


def _is_not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def without_absolute_paths(value: Any) -> Any:
    """
    Shorten every absolute path in a JSON value to its last part, also in the middle of a sentence.

    Args:
        value (`Any`): A JSON value, in which tuples stand for lists and `os.PathLike` for texts. Keys stay.

    Example:

    ```python
    >>> without_absolute_paths({"path": "/home/me/train.json", "text": "file '/data/a.jpg' is empty", "rate": "1/2"})
    {'path': 'train.json', 'text': "file 'a.jpg' is empty", 'rate': '1/2'}
    ```
    """
    if isinstance(value, dict):
        return {key: without_absolute_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_absolute_paths(item) for item in value]
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        return value
    if (os.path.isabs(value) or value.startswith("~")) and "\n" not in value:
        return last_part(value)
    value = _QUOTED_PATH.sub(lambda match: match[1] + last_part(match[2]) + match[1], value)
    return _ABSOLUTE_PATH.sub(lambda match: last_part(match.group()), value)


def last_part(path: str) -> str:
    """The last part of a path; `~` for a home directory, whose last part is the name of a user."""
    is_home = _HOME.fullmatch(path.rstrip("/")) is not None or path.rstrip("/") == str(Path.home())
    return "~" if is_home else Path(path).name


_HOMES = r"/(?:home|Users|export/home)"
_HOME = re.compile(rf"~|/root|{_HOMES}/[^/]+")
# A folder may have spaces in its name ('/Users/john smith/x'): words are one part of a path if a slash follows.
_WORD = r"[\w.+@%=-]+"
_PART = rf"(?:{_WORD}(?: {_WORD}){{0,4}}(?=/)|{_WORD})"
# Two or more parts behind a slash that starts a word: '/data/a.jpg'; not 'and/or', 'https://host/page', '</s>'.
_ABSOLUTE_PATH = re.compile(rf"(?<![\w/.:<~\\])~?(?:/{_PART}){{2,}}")
_QUOTED_PATH = re.compile(r"""(['"`])(~?/(?:(?!\1)[^/\n])+/(?:(?!\1)[^\n])*)\1""")  # whatever is in it


__all__ = ["last_part", "replace_non_finite", "without_absolute_paths"]
