"""A flat YAML recipe and command-line flags to one checked `Recipe`."""

import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from transformers_llava.training.configs import (
    COMPONENTS,
    ComponentConfig,
    DataConfig,
    LlavaSFTConfig,
    ModelConfig,
    RecipeError,
)


@dataclass
class Recipe:
    """One stage of training, ready to run. `given` is what the person wrote; everything else is a default."""

    stage: str | None
    model: ModelConfig
    data: DataConfig
    components: dict[str, ComponentConfig]
    sft: LlavaSFTConfig
    given: dict[str, Any]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """
        Checks a flat mapping of field names and sorts it into the settings it is made of.

        Raises:
            `RecipeError`: for an unknown field (with the nearest known one), a value of the wrong type, settings that
                contradict each other, or a run in which nothing would learn.
        """
        _refuse_unknown(values, known_fields(), "recipe")
        components = {name: _component(name, values.get(name)) for name in COMPONENTS}
        if all(component.mode == "frozen" for component in components.values()):
            raise RecipeError(
                "every component is frozen, so no weight could change. Set `mode: full` (or `lora`) for at least one "
                f"of {', '.join(COMPONENTS)}; stage 1 trains the multi_modal_projector alone."
            )
        return cls(
            stage=values.get("stage"),
            model=ModelConfig(**_pick(ModelConfig, values)),
            data=DataConfig(**_pick(DataConfig, values)),
            components=components,
            sft=LlavaSFTConfig(**{k: v for k, v in _pick(LlavaSFTConfig, values).items() if k != "max_length"}),
            given=dict(values),
        )

    def to_dict(self) -> dict[str, Any]:
        """Every field with the value it has in this run, flat as in the file."""
        sft = {name: value for name, value in self.sft.to_dict().items() if name not in _NOT_OF_A_RECIPE}
        return {
            "stage": self.stage,
            **sft,
            **asdict(self.model),
            **asdict(self.data),
            **{name: asdict(component) for name, component in self.components.items()},
        }


def read_recipe(path: Path) -> dict[str, Any]:
    """The fields of a YAML file; `1e-3` is a number, as in YAML 1.2."""
    if not path.is_file():
        raise RecipeError(f"the recipe {str(path)!r} does not exist. `llava recipes ls` lists the packaged ones.")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"the recipe {path.name!r} is not readable YAML: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(
            f"the recipe {path.name!r} holds no fields (`name: value` lines), so there is nothing to run."
        )
    return values


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
        except yaml.YAMLError as error:
            raise RecipeError(f"the value of --{name} is not readable YAML: {text!r} ({error})") from error
        *path, last = name.replace("-", "_").split(".")
        target = result
        for key in path:
            target = target.setdefault(key, {})
            if not isinstance(target, dict):
                raise RecipeError(f"--{name} goes into {key!r}, which is no mapping but {target!r}.")
        target[last] = value
    if "resume" in result:  # the short word for what Trainer calls resume_from_checkpoint
        result["resume_from_checkpoint"] = result.pop("resume")
    return result


def known_fields() -> list[str]:
    """Every name that a recipe may use."""
    names = [f.name for config in (ModelConfig, DataConfig, LlavaSFTConfig) for f in fields(config) if f.init]
    return sorted({"stage", *COMPONENTS, *names} - _NOT_OF_A_RECIPE)


def describe_fields() -> dict[str, str]:
    """What every field means, in one line each."""
    helps = {f.name: f.metadata.get("help", "") for c in (LlavaSFTConfig, DataConfig, ModelConfig) for f in fields(c)}
    helps["stage"] = "Name of the stage in the run record and the card: align or instruct."
    settings = ", ".join(f.name for f in fields(ComponentConfig))
    helps |= dict.fromkeys(COMPONENTS, f"How this component takes part: a mapping with {settings}.")
    return {name: " ".join(str(helps[name]).split()) for name in known_fields()}


# Neither settable nor recorded.
_NOT_OF_A_RECIPE = {
    # belong to a person or a machine
    *("hub_token", "push_to_hub_token", "logging_dir", "local_rank"),
    # steer TRL's own data preparation, sampling and model loading, none of which takes part
    *("dataset_kwargs", "dataset_num_proc", "dataset_text_field", "remove_unused_columns", "shuffle_dataset"),
    *("packing", "packing_strategy", "eval_packing", "padding_free", "pad_to_multiple_of", "truncation_mode"),
    *("assistant_only_loss", "completion_only_loss", "chat_template_path", "eos_token", "pad_token"),
    *("train_sampling_strategy", "length_column_name", "dataloader_drop_last", "auto_find_batch_size"),
    *("model_init_kwargs", "trust_remote_code", "router_aux_loss_coef"),
}


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads `1e-3` as text; 1.2, and everyone who writes a learning rate, as a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$|[-+]?\.(inf|Inf)$|\.(nan|NaN)$"),
    list("-+.0123456789"),
)


def _component(name: str, values: Any) -> ComponentConfig:
    if values is None:
        return ComponentConfig()
    if isinstance(values, str):
        values = {"mode": values}  # `vision_tower: frozen`
    if not isinstance(values, dict):
        raise RecipeError(f"{name} takes a mapping such as {{mode: full, learning_rate: 2e-5}}; given: {values!r}.")
    _refuse_unknown(values, [f.name for f in fields(ComponentConfig)], name)
    return ComponentConfig(**_pick(ComponentConfig, values, of=f"{name}."))


def _refuse_unknown(values: Iterable[str], known: Sequence[str], where: str) -> None:
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
            hint = f"Did you mean `{near[0]}`?" if near else "`llava recipes fields` lists them all."
            raise RecipeError(f"`{name}` is no field of a {where}, so it would have no effect. {hint}")


def _pick(config: type, values: Mapping[str, Any], of: str = "") -> dict[str, Any]:
    hints = typing.get_type_hints(config)
    names = [f.name for f in fields(config) if f.init and f.name in values]
    return {name: _as_type(of + name, values[name], hints[name]) for name in names}


def _as_type(name: str, value: Any, hint: Any) -> Any:
    """A whole number for a `float` field becomes one; a word for a number or a switch is refused."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    plain = [option for option in options if option in (int, float, bool, str, types.NoneType)]
    if len(plain) != len(options) or str in plain:
        return value  # lists, dictionaries, enumerations: checked by those who read them
    if value is None and types.NoneType in plain:
        return None
    if isinstance(value, bool) and bool in plain:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        if int in plain:
            return value
        if float in plain:
            return float(value)
    if isinstance(value, float):
        if float in plain:
            return value
        if int in plain and value.is_integer():
            return int(value)
    wanted = " or ".join(option.__name__ for option in plain if option is not types.NoneType)
    raise RecipeError(f"`{name}` takes {wanted}, but {value!r} was given.")


__all__ = ["Recipe", "apply_flags", "describe_fields", "known_fields", "read_recipe"]
