"""Read `adapter_config.json` and refuse every setting that is not known to leave a plain sum.

Most variants of LoRA are one field of the same file: PiSSA, OLoRA and others change the base weights before training,
DoRA scales each row, aLoRA depends on the prompt. peft gains some with every release, so the fields that may be set
are listed, and not those that may not.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers_llava.artifacts.limits import MAX_LORA_PATTERN_LENGTH, MAX_LORA_PATTERNS
from transformers_llava.artifacts.untrusted import read_json


CONFIG_FILE = "adapter_config.json"

# How the two matrices start; with each of them the base weights stay what they are. Not in this list: pissa, olora,
# corda, loftq and lora_ga, which change them.
PLAIN_INITS = (True, False, None, "gaussian", "eva", "orthogonal")
# A module's name as a regular expression: names, dots, alternatives and classes, and nothing that repeats a group,
# which could take for ever to match.
_PATTERN = re.compile(r"(?:[\w.|\[\]^$\-]|\\[.dw]|\.[*+]|\\d\+|\(\?:|\(|\)(?![*+{?]))*")


@dataclass(frozen=True)
class LoraSettings:
    """
    What a merge needs of an adapter's configuration.

    Attributes:
        base (`str`, *optional*): Folder or Hub id of the model that it was trained on.
        alpha (`float`): Scale of all modules, before it is divided by the rank.
        alpha_pattern (`dict[str, float]`): Scale of modules whose name ends with the pattern; the first that fits.
        is_rank_stabilized (`bool`): Whether the scale is divided by the root of the rank.
        is_transposed (`bool`): Whether the adapted weights are stored as (in, out).
        fields (`dict`): The file's known fields, for peft.
    """

    base: str | None
    alpha: float
    alpha_pattern: dict[str, float]
    is_rank_stabilized: bool
    is_transposed: bool
    fields: dict[str, Any]

    def scale(self, name: str, rank: int) -> float:
        """
        The factor before `B @ A`: alpha / rank, by peft's rules for patterns and rank-stabilised LoRA.

        Args:
            name (`str`): Of the module, such as `model.layers.0.self_attn.q_proj`.
            rank (`int`): Rows of `A`.
        """
        patterns = self.alpha_pattern.items()
        alpha = next((value for key, value in patterns if re.match(rf"(.*\.)?({key})$", name)), self.alpha)
        return alpha / math.sqrt(rank) if self.is_rank_stabilized else alpha / rank


def read_lora_settings(folder: str | Path) -> LoraSettings:
    """
    Read the configuration of a LoRA folder.

    Raises:
        ValueError: The adapter is no LoRA, or one of its settings is not known to leave a plain sum.
    """
    folder = Path(folder)
    return check_lora_settings(read_json(folder / CONFIG_FILE), str(folder))


def check_lora_settings(config: dict[str, Any], name: str) -> LoraSettings:
    """`read_lora_settings` of what stands in the file; `name` says in errors whose it is."""
    refused = [f"{key}={_shown(value)}" for key, value in sorted(config.items()) if not _is_allowed(key, value)]
    if refused:
        raise ValueError(
            f"The adapter in {name} is not known to be a plain LoRA: its {CONFIG_FILE} says {', '.join(refused)}. "
            "Adding B @ A to its base may not give its weights, so it is refused. Merge it with peft "
            "(`merge_and_unload`) and convert the result."
        )
    return LoraSettings(
        base=config.get("base_model_name_or_path"),
        alpha=float(config.get("lora_alpha") or 8),
        alpha_pattern={key: float(value) for key, value in (config.get("alpha_pattern") or {}).items()},
        is_rank_stabilized=bool(config.get("use_rslora")),
        is_transposed=bool(config.get("fan_in_fan_out")),
        fields={key: value for key, value in config.items() if key in ALLOWED},
    )


def _is_allowed(key: str, value: Any) -> bool:
    """An unknown field may be there as long as it is switched off, as peft writes every field of its own release."""
    return ALLOWED[key](value) if key in ALLOWED else _is_off(value)


def _is_off(value: Any) -> bool:
    return value is None or value is False or value in ({}, [], "")


def _is_anything(value: Any) -> bool:
    """For fields that were only read when the adapter was made or placed; its tensors say what came of them."""
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_flag(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _is_pattern(value: Any) -> bool:
    """A mapping from module patterns to numbers."""
    if value is None:
        return True
    if not isinstance(value, dict) or len(value) > MAX_LORA_PATTERNS:
        return False
    return all(_is_number(number) and number > 0 and _is_safe(pattern) for pattern, number in value.items())


def _is_safe(pattern: str) -> bool:
    if len(pattern) > MAX_LORA_PATTERN_LENGTH or len(re.findall(r"[*+]", pattern)) > 3:
        return False
    if not _PATTERN.fullmatch(pattern):
        return False
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _is_one_of(*values: Any) -> Callable[[Any], bool]:
    return lambda value: any(value is one or (isinstance(value, str) and value == one) for one in values)


# Fields of `adapter_config.json` that may be set, and to what. All others must be off.
ALLOWED: dict[str, Callable[[Any], bool]] = {
    "peft_type": _is_one_of("LORA", None),
    "r": lambda value: isinstance(value, int) and not isinstance(value, bool) and value > 0,
    "lora_alpha": lambda value: _is_number(value) and value > 0,
    "rank_pattern": _is_pattern,  # the tensors have the ranks
    "alpha_pattern": _is_pattern,
    "use_rslora": _is_flag,
    "fan_in_fan_out": _is_flag,
    "bias": _is_one_of("none", None),
    "init_lora_weights": _is_one_of(*PLAIN_INITS),
    "base_model_name_or_path": lambda value: value is None or isinstance(value, str),
    "lora_dropout": lambda value: value is None or _is_number(value),
    "qalora_group_size": lambda value: value is None or _is_number(value),  # only read with use_qalora
    "megatron_core": _is_one_of("megatron.core", None),
    "task_type": _is_anything,
    "peft_version": _is_anything,
    "revision": _is_anything,
    "auto_mapping": _is_anything,
    "inference_mode": _is_anything,
    "target_modules": _is_anything,
    "exclude_modules": _is_anything,
    "layers_to_transform": _is_anything,
    "layers_pattern": _is_anything,
    "modules_to_save": _is_anything,  # tensors of them are refused where the pairs are read
    "eva_config": _is_anything,
    "runtime_config": _is_anything,
}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


__all__ = ["ALLOWED", "CONFIG_FILE", "LoraSettings", "PLAIN_INITS", "check_lora_settings", "read_lora_settings"]
