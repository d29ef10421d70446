"""Check a card's metadata as the Hub would, without a network."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml


# As in huggingface_hub's `repocard`.
_FRONT_MATTER = re.compile(r"^(\s*---(?:\r\n|\r|\n))([\S\s]*?)((?:\r\n|\r|\n)---[ \t]*(\r\n|\n|$))")
_REPO_ID = re.compile(r"^[A-Za-z0-9][\w.\-]*(/[\w][\w.\-]*)?$")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]+)?|code|multilingual")
_RELATIONS = ("adapter", "merge", "quantized", "finetune")


def validate_card(text: str, repo_type: str = "model") -> tuple[list[str], list[str]]:
    """
    What the Hub refuses a card for, and what it warns of.

    The Hub checks every README.md that is sent (`POST /api/validate-yaml`); its rules are known from its answers, and
    the lists of licenses and tasks from its documentation on the day that `hub_enums.json` names. So a card that
    passes here may still be refused there.

    Args:
        text (`str`): The whole README.md.
        repo_type (`str`, *optional*): model, dataset or space.

    Returns:
        `tuple[list[str], list[str]]`: Errors and warnings.
    """
    match = _FRONT_MATTER.search(text)
    if match is None:
        return [], ["the card has no metadata (YAML between two lines of ---)"]
    try:
        values = yaml.safe_load(match.group(2))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: such as a month 13
        return [f"the metadata is not YAML: {str(error).splitlines()[0]}"], []
    if not isinstance(values, dict):
        return ["the metadata has no fields"], []
    return list(_errors(values)), list(_warnings(values, repo_type))


def known_licenses() -> list[str]:
    """What `license:` may be on the Hub."""
    return _enums()["licenses"]


def _enums() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "hub_enums.json").read_text(encoding="utf-8"))


def _errors(values: dict[str, Any]) -> Iterator[str]:
    for license in _as_list(values.get("license")):
        if license not in known_licenses():
            yield f"`license: {license}` is none of the Hub's; use one of them, or `other` with `license_name`"
    for name in ("base_model", "datasets", "new_version"):
        for value in _as_list(values.get(name)):
            if not isinstance(value, str) or not _REPO_ID.fullmatch(value) or ".." in value or "--" in value:
                yield f"`{name}: {value}` is no id of the Hub (OWNER/NAME)"
    if values.get("base_model_relation") not in (None, *_RELATIONS):
        yield f"`base_model_relation: {values['base_model_relation']}` is none of {', '.join(_RELATIONS)}"
    for language in _as_list(values.get("language")):
        if not isinstance(language, str) or not _LANGUAGE.fullmatch(language):
            yield f"`language: {language}` is no ISO 639 code"
    tags = values.get("tags")
    if tags is not None and not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        yield "`tags` is no list of words"
    for number, entry in enumerate(_as_list(values.get("model-index"))):
        yield from _errors_of_results(entry, f"model-index[{number}]")


def _errors_of_results(entry: Any, where: str) -> Iterator[str]:
    if not isinstance(entry, dict) or not entry.get("name"):
        yield f"`{where}.name` is missing"
        return
    if not isinstance(entry.get("results"), list):
        yield f"`{where}.results` is missing"
        return
    for number, result in enumerate(entry["results"]):
        place = f"{where}.results[{number}]"
        if not isinstance(result, dict):
            yield f"`{place}` has no fields"
            continue
        if not _fields(result.get("task")).get("type"):
            yield f"`{place}.task.type` is missing"
        for name in ("type", "name"):
            if not _fields(result.get("dataset")).get(name):
                yield f"`{place}.dataset.{name}` is missing"
        if not isinstance(result.get("metrics"), list):
            yield f"`{place}.metrics` is missing"
            continue
        for position, metric in enumerate(result["metrics"]):
            for name in ("type", "value"):
                if _fields(metric).get(name) is None:
                    yield f"`{place}.metrics[{position}].{name}` is missing"


def _fields(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _warnings(values: dict[str, Any], repo_type: str) -> Iterator[str]:
    if values.get("license") == "other" and not values.get("license_name"):
        yield "`license: other` should come with `license_name`"
    tag = values.get("pipeline_tag")
    if repo_type == "model" and tag is not None and str(tag) not in _enums()["pipeline_tags"]:
        yield f"`pipeline_tag: {tag}` is no task of the Hub"


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


__all__ = ["known_licenses", "validate_card"]
