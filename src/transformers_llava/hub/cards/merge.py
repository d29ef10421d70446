"""Merge generated parts into a card that a user may have written in."""

import re
from typing import Any

import yaml

from transformers_llava.artifacts.untrusted import DocumentError, parse_yaml


class CardError(ValueError):
    """The card has gaps, or its markers are broken."""


_PART = re.compile(r"<!-- llava:begin (?P<name>\w+) -->\n(?P<text>.*?)\n<!-- llava:end (?P=name) -->", re.DOTALL)


_MARKER = re.compile(r"<!-- llava:(?:begin|end) \w+ -->")


_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)


_OLD_NAMES = {"licence": "license"}  # old spelling of a part that is there already


_GENERATED_FIELDS = {
    *("library_name", "pipeline_tag", "license", "license_name", "license_link", "language", "base_model"),
    *("base_model_relation", "datasets", "tags", "model-index"),
}


def _front_matter(card: str) -> dict[str, Any]:
    match = _FRONT_MATTER.match(card)
    if match is None:
        return {}
    try:
        values = parse_yaml(match.group(1), "README.md: the metadata", kind=object)
    except DocumentError as error:
        raise CardError(f"{error} Mend it on the Hub, or remove the block between the lines of ---.") from error
    return values if isinstance(values, dict) else {}


def dump_front_matter(values: dict[str, Any]) -> str:
    """The metadata as YAML, in the order given."""
    # Not `ModelCardData.to_yaml`: it has an order of its own, folds long lines, and reads `model-index` anew, so what
    # others wrote into a card would come back as something else.
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000)


def generated_parts(card: str) -> dict[str, str]:
    """What stands between the markers, by name; and `metadata`, the fields that are generated."""
    parts = {match["name"]: match["text"] for match in _PART.finditer(_FRONT_MATTER.sub("", card, count=1))}
    values = {name: value for name, value in _front_matter(card).items() if name in _GENERATED_FIELDS}
    return {**parts, "metadata": dump_front_matter(values)} if values else parts


def merge_card(existing: str | None, rendered: str) -> str:
    """
    A newly rendered card with what people wrote around the generated parts of the one that is there.

    Metadata that we do not generate stays; generated parts are replaced where they stand, dropped where there is no
    such part any more, and added at the end where they are new. A card without a marker is a user's: it follows.

    Raises:
        `CardError`: a marker has lost its other half.
    """
    if existing is None or not existing.strip():
        return rendered
    new = generated_parts(rendered)
    new.pop("metadata", None)
    metadata = {**_front_matter(existing), **_front_matter(rendered)}
    for name in _GENERATED_FIELDS - _front_matter(rendered).keys():
        metadata.pop(name, None)
    body = _FRONT_MATTER.sub("", existing, count=1)
    if len(_MARKER.findall(body)) != 2 * len(_PART.findall(body)):
        raise CardError(
            "the card on the Hub has a marker (<!-- llava:begin ... -->) without its other half, so it cannot be "
            "told what is generated there. Mend it there, or remove that part with its marker."
        )
    if not _PART.search(body):
        own = _FRONT_MATTER.sub("", rendered, count=1).strip()
        return f"---\n{dump_front_matter(metadata)}---\n\n{own}\n\n## From the card before\n\n{body.strip()}\n"
    seen: set[str] = set()

    def renew(match: re.Match[str]) -> str:
        name = _OLD_NAMES.get(match["name"], match["name"])
        seen.add(name)
        text = new.get(name)
        return "" if text is None else f"<!-- llava:begin {name} -->\n{text}\n<!-- llava:end {name} -->"

    body = _PART.sub(renew, body)
    added = [
        f"<!-- llava:begin {name} -->\n{text}\n<!-- llava:end {name} -->"
        for name, text in new.items()
        if name not in seen
    ]
    return f"---\n{dump_front_matter(metadata)}---\n\n" + "\n\n".join([body.strip(), *added]) + "\n"


__all__ = ["CardError", "dump_front_matter", "generated_parts", "merge_card"]
