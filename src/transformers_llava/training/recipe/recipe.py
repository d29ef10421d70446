"""Read a flat YAML recipe and command-line flags as one checked `Recipe`."""

import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from transformers_llava.training.recipe.configs import (
    ComponentConfig,
    DataConfig,
    LlavaSFTConfig,
    ModelConfig,
    check_at_least,
)
from transformers_llava.training.recipe.recipe_error import RecipeError
from transformers_llava.training.recipe.recipe_file import COMPONENTS, apply_flags, read_recipe


@dataclass
class Recipe:
    """One stage of training, ready to run. `given` is what the user wrote; everything else is a default."""

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
        values = {name: _without_yaml_no(name, value) for name, value in values.items()}
        _refuse_evaluation(values)
        _check_bounds(values)
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
            sft=_sft_config({k: v for k, v in _pick(LlavaSFTConfig, values).items() if k != "max_length"}),
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
    # belong to a user or a machine
    *("hub_token", "push_to_hub_token", "logging_dir", "local_rank"),
    # steer TRL's own data preparation, sampling and model loading, none of which takes part
    *("dataset_kwargs", "dataset_num_proc", "dataset_text_field", "remove_unused_columns", "shuffle_dataset"),
    *("packing", "packing_strategy", "eval_packing", "padding_free", "pad_to_multiple_of", "truncation_mode"),
    *("assistant_only_loss", "completion_only_loss", "chat_template_path", "eos_token", "pad_token"),
    *("train_sampling_strategy", "length_column_name", "dataloader_drop_last", "auto_find_batch_size"),
    *("model_init_kwargs", "trust_remote_code", "router_aux_loss_coef"),
}


# Training has no evaluation data: `llava inspect`, benchmarks and your own scripts read the finished checkpoint.
_OF_EVALUATION: dict[str, tuple[Any, ...]] = {
    "eval_strategy": (None, "no"),
    "eval_on_start": (None, False),
    "load_best_model_at_end": (None, False),
    "do_eval": (None, False),
    "do_predict": (None, False),
}

_AT_LEAST: dict[str, float] = {
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "max_length": 1,
    "data_num_proc": 1,
    "num_train_epochs": 0,
    "learning_rate": 0,
    "weight_decay": 0,
    "warmup_steps": 0,
    "max_grad_norm": 0,
    "seed": 0,
    "dataloader_num_workers": 0,
    "adam_beta1": 0,
    "adam_beta2": 0,
    "logging_steps": 0,
    "save_steps": 0,
    "save_total_limit": 1,
}
# Where the libraries would stop at the first step, or in a generator that takes 32 bits.
_BELOW: dict[str, float] = {"seed": 2**32, "adam_beta1": 1, "adam_beta2": 1}


def _without_yaml_no(name: str, value: Any) -> Any:
    """YAML reads `save_strategy: no` as false."""
    return "no" if value is False and name.endswith("_strategy") else value


def _refuse_evaluation(values: Mapping[str, Any]) -> None:
    for name, harmless in _OF_EVALUATION.items():
        if name in values and values[name] not in harmless:
            raise RecipeError(
                f"`{name}: {values[name]}` asks for an evaluation while training, but a recipe has no evaluation "
                "data, so training would stop at the first one. Leave it out; evaluate the finished checkpoint, or "
                "every `save_steps` one."
            )


def _check_bounds(values: Mapping[str, Any]) -> None:
    for name, least in _AT_LEAST.items():
        value = values.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            check_at_least(name, value, least)
    for name, bound in _BELOW.items():
        value = values.get(name)
        if isinstance(value, int | float) and value >= bound:
            raise RecipeError(f"`{name}: {value}` has to be below {bound}. Correct or remove it.")
    if values.get("output_dir") == "":
        raise RecipeError("`output_dir` is empty, and the current folder would be filled. Name a folder.")


def _sft_config(values: dict[str, Any]) -> LlavaSFTConfig:
    try:
        return LlavaSFTConfig(**values)
    except RecipeError:
        raise
    except (ValueError, TypeError, KeyError, ImportError) as error:  # transformers' and TRL's own checks
        reason = " ".join(str(error).split())
        raise RecipeError(
            f"the settings of this recipe are refused by transformers or TRL: {reason} `llava recipes fields` "
            "explains each field."
        ) from error


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
    if len(plain) != len(options) or name == "resume_from_checkpoint":  # a folder, or `true`
        return value  # lists, dictionaries, enumerations: checked by those who read them
    if value is None and types.NoneType in plain:
        return None
    if isinstance(value, str) and str in plain:
        return value
    if isinstance(value, bool) and bool in plain:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        if int in plain:
            return value
        if float in plain:
            return float(value)
    if isinstance(value, float) and math.isfinite(value):
        if float in plain:
            return value
        if int in plain and value.is_integer():
            return int(value)
    wanted = " or ".join(option.__name__ for option in plain if option is not types.NoneType)
    hint = " Write it in quotes if it is a text." if str in plain else ""
    raise RecipeError(f"`{name}` takes {wanted}, but {value!r} was given.{hint}")


__all__ = ["Recipe", "apply_flags", "describe_fields", "known_fields", "read_recipe"]
