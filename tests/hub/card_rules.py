"""A README to the errors and warnings of the Hub's `validate-yaml`, as far as they are known from outside."""

import re
from typing import Any

import yaml


# The rule of huggingface_hub.repocard: the block between the first two lines of three dashes.
_FRONT_MATTER = re.compile(r"^(\s*---(?:\r\n|\r|\n))([\S\s]*?)((?:\r\n|\r|\n)---[ \t]*(\r\n|\n|$))")
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.\-]*(/\w[\w.\-]*)?")
_LICENCES = {
    *("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-sa-4.0", "cc0-1.0", "gemma"),
    *("llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "openmdw-1.1", "other", "unknown"),
}
_MISSING = "empty or missing yaml metadata in repo card"


def front_matter(content: str) -> dict[str, Any]:
    """Metadata of a card; empty where there is none that can be read."""
    match = _FRONT_MATTER.search(content)
    try:
        facts = yaml.safe_load(match[2]) if match else None
    except yaml.YAMLError:
        facts = None
    return facts if isinstance(facts, dict) else {}


def validate(content: str, repo_type: str) -> tuple[list[str], list[str]]:
    """Errors, which refuse a commit, and warnings."""
    match = _FRONT_MATTER.search(content)
    if not match:
        return [], [_MISSING]
    try:
        facts = yaml.safe_load(match[2])
    except yaml.YAMLError as error:
        return [f"invalid yaml: {str(error).splitlines()[0]}"], []
    if facts is None:
        return [], [_MISSING]
    if not isinstance(facts, dict):
        return ['"value" must be of type object'], []
    errors = [
        f'"license" must be one of {sorted(_LICENCES)}; it is {licence!r}'
        for licence in _as_list(facts.get("license"))
        if licence not in _LICENCES
    ]
    for key in ("base_model", "datasets", "new_version"):
        for value in _as_list(facts.get(key)):
            if not isinstance(value, str) or not _REPO_ID.fullmatch(value) or ".." in value or "--" in value:
                errors.append(f'"{key}" with value "{value}" is not valid: it is no id of a repository')
    return errors, []


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
