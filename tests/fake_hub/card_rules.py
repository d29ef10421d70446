"""
Give the errors and warnings of the Hub's `validate-yaml` for a README.

The rules are those of `transformers_llava.hub.cards.validation`, by which we check a card before it is sent. They are
read from their file: to import the package would load torch into every server.
"""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml


# The rule of huggingface_hub.repocard: the block between the first two lines of three dashes.
_FRONT_MATTER = re.compile(r"^(\s*---(?:\r\n|\r|\n))([\S\s]*?)((?:\r\n|\r|\n)---[ \t]*(\r\n|\n|$))")
_RULES = Path(__file__).resolve().parents[2] / "src" / "transformers_llava" / "hub" / "cards" / "validation.py"


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
    return _rules.validate_card(content, repo_type)


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("card_validation", _RULES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_rules = _load()
