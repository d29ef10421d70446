"""Read fields of files that were written before `licence` became `license`, and say how many there were."""

import logging
import re
from typing import Any

from transformers_llava.artifacts.untrusted import DocumentError


logger = logging.getLogger(__name__)

_FIELDS = {
    "licence": "license",
    "licence_url": "license_url",
    "licence_revision": "license_revision",
    "images_licence": "images_license",
    "images_licence_url": "images_license_url",
}
_OF_WORD = {"licence": "license", "Licence": "License", "picture": "image", "Picture": "Image"}
_PART = r"\w/@:?=&#%+~\-"  # of a name or an address, in which a word stands for itself
_WORD = re.compile(
    rf'(?<![{_PART}.])(?:(?<=")picture(?=\.png")|'
    rf"(?!(?<!.)licence:)(?:{'|'.join(_OF_WORD)})(?=s?[,.:;]?(?![{_PART}.])))"
)
_KEY = re.compile(rf'^(\s*(?:- )?"?)({"|".join(_FIELDS)})(?="?:)', re.MULTILINE)


def with_new_spellings(values: Any, what: str) -> Any:
    """
    Return JSON or YAML values in which fields of sources, parts and downloads have the names of today.

    Only mappings that stand in a list are looked at: those of packages and tensors have names that are not ours.

    ```python
    >>> with_new_spellings({"sources": [{"name": "a", "licence": "MIT"}]}, "the mixture")
    {'sources': [{'name': 'a', 'license': 'MIT'}]}
    ```

    Args:
        values (`Any`): Plain values; they stay as they are, and one line is logged if a field was renamed.
        what (`str`): Whose values they are, for the log and the error.

    Raises:
        `DocumentError`: a mapping has both spellings of a field.
    """
    renamed: list[str] = []
    new = _renamed(values, what, renamed, in_list=False)
    if renamed:
        names = ", ".join(f"`{name}` as `{_FIELDS[name]}`" for name in sorted(set(renamed)))
        logger.info("%s has %s fields of an older spelling, which are read: %s", what, f"{len(renamed):,}", names)
    return new


def _renamed(value: Any, what: str, renamed: list[str], *, in_list: bool) -> Any:
    if isinstance(value, list):
        return [_renamed(one, what, renamed, in_list=True) for one in value]
    if not isinstance(value, dict):
        return value
    new = {}
    for name, one in value.items():
        known = _FIELDS.get(name) if in_list and isinstance(name, str) else None
        if known is not None and known in value:
            raise DocumentError(f"{what} has both `{name}` and `{known}`. Keep one of them.")
        renamed += [name] if known is not None else []
        new[known or name] = _renamed(one, what, renamed, in_list=False)
    return new


def text_with_new_spellings(text: str) -> str:
    """The text of a YAML or JSON file of ours with the same fields renamed, byte for byte as it is written today."""
    return _KEY.sub(lambda match: match[1] + _FIELDS[match[2]], text)


def document_with_new_spellings(text: str) -> str:
    """
    A generated document with the words of today.

    A line `licence:` stays, for the Hub's metadata never had that; so do names and addresses, for another spelling of
    one leads elsewhere.
    """
    return _WORD.sub(lambda match: _OF_WORD[match[0]], text)


__all__ = ["document_with_new_spellings", "text_with_new_spellings", "with_new_spellings"]
