"""Read a recipe's fields from its file and its flags, as they are written; nothing heavy is imported for it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from transformers_llava.artifacts.untrusted import DocumentError, read_yaml
from transformers_llava.training.recipe.recipe_error import RecipeError


COMPONENTS = ("vision_tower", "multi_modal_projector", "language_model")


def read_recipe(path: Path) -> dict[str, Any]:
    """The fields of a YAML file; `1e-3` is a number, as in YAML 1.2."""
    # Not `TrlParser.parse_args_and_config`: it reads `1e-3` as a text, sets environment variables that the file names,
    # and needs torch and trl imported before `llava train --help` or a mistyped field can be answered.
    try:
        if values := read_yaml(path, kind=(dict, type(None)), loader=_Loader):
            return values
    except FileNotFoundError as error:
        raise RecipeError(
            f"the recipe {str(path)!r} does not exist. `llava recipes ls` lists the packaged ones."
        ) from error
    except DocumentError as error:
        raise RecipeError(f"the recipe cannot be read: {error} A recipe holds `name: value` lines.") from error
    raise RecipeError(f"the recipe {path.name!r} holds no fields (`name: value` lines), so there is nothing to run.")


def apply_flags(values: dict[str, Any], flags: Sequence[str]) -> dict[str, Any]:
    """
    Recipe fields with command-line flags laid over them; a flag's value is read as YAML, a dot goes one level down.

    ```python
    >>> apply_flags({"seed": 0, "vision_tower": {"mode": "full"}}, ["--seed", "1", "--vision_tower.mode", "frozen"])
    {'seed': 1, 'vision_tower': {'mode': 'frozen'}}
    ```
    """
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    position = 0
    while position < len(flags):
        flag = flags[position]
        if not flag.startswith("--"):
            raise RecipeError(f"{flag!r} stands where a flag was expected. Flags are written `--field value`.")
        name, has_value, text = flag[2:].partition("=")
        position += 1
        if not has_value:
            if position < len(flags) and not flags[position].startswith("--"):
                text, position = flags[position], position + 1
            else:
                text = "true"  # `--strict` alone
        try:
            value = yaml.load(text, Loader=_Loader)
        except (yaml.YAMLError, ValueError) as error:  # ValueError: such as a month 13
            raise RecipeError(f"the value of --{name} is not readable YAML: {text!r} ({error})") from error
        *path, last = name.replace("-", "_").split(".")
        target = result
        for key in path:
            target = _section(target, key, name)
        target[last] = value
    if "resume" in result:  # the short word for what Trainer calls resume_from_checkpoint
        result["resume_from_checkpoint"] = result.pop("resume")
    return result


def mode_of(values: Mapping[str, Any], component: str) -> str:
    """
    How a component takes part, in the long form or the short one.

    ```python
    >>> recipe = {"language_model": "full", "multi_modal_projector": {"mode": "lora"}}
    >>> [mode_of(recipe, component) for component in COMPONENTS]
    ['frozen', 'lora', 'full']
    ```
    """
    given = values.get(component)
    mode = given.get("mode") if isinstance(given, dict) else given
    return "frozen" if mode is None else str(mode)


def _section(target: dict[str, Any], key: str, flag: str) -> dict[str, Any]:
    section = target.setdefault(key, {})
    if section is None or (isinstance(section, str) and key in COMPONENTS):
        section = target[key] = {} if section is None else {"mode": section}  # `language_model: full`
    if not isinstance(section, dict):
        raise RecipeError(f"--{flag} goes into {key!r}, which is no mapping but {section!r}.")
    return section


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads `1e-3` as text; 1.2, and everyone who writes a learning rate, as a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$|[-+]?\.(inf|Inf)$|\.(nan|NaN)$"),
    list("-+.0123456789"),
)


__all__ = ["COMPONENTS", "apply_flags", "mode_of", "read_recipe"]
