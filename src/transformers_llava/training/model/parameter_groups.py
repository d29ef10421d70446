"""Group trainable parameters for the optimizer: component x decay, each with its learning rate and its name."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import nn

from transformers_llava.training.model.components import component_of
from transformers_llava.training.recipe.configs import ComponentConfig


def build_parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    components: Mapping[str, ComponentConfig],
    decay_names: Collection[str],
    learning_rate: float,
    weight_decay: float,
) -> list[dict[str, Any]]:
    """
    Groups for an optimizer, in the order in which their parameters first occur.

    Args:
        named_parameters (`Iterable`): Of the model as it is trained; frozen ones are left out.
        components (`Mapping[str, ComponentConfig]`): One per component.
        decay_names (`Collection[str]`): Parameters that decay (all but biases and norms).
        learning_rate, weight_decay (`float`): For components without their own.

    Returns:
        `list[dict]`: `{"params", "lr", "weight_decay", "name"}` each; names are `language_model` and, for what does
        not decay, `language_model.no_decay`. Without any decay the two are one group.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in named_parameters:
        if not parameter.requires_grad:
            continue
        component = component_of(name)
        config = components[component]
        decay = weight_decay if config.weight_decay is None else config.weight_decay
        is_decayed = name in decay_names
        key = component if is_decayed or decay == 0 else f"{component}.no_decay"
        group = groups.setdefault(
            key,
            {
                "params": [],
                "lr": learning_rate if config.learning_rate is None else config.learning_rate,
                "weight_decay": decay if is_decayed else 0.0,
                "name": key,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


__all__ = ["build_parameter_groups"]
