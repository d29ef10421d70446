"""Tell which component a parameter belongs to and what of a model is trainable, and print the table of it."""

import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from transformers_llava.training.recipe.configs import ComponentConfig
from transformers_llava.training.recipe.recipe_error import RecipeError
from transformers_llava.training.recipe.recipe_file import COMPONENTS


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ComponentRow:
    """One line of the table. `parameters` sum to the model's: a tied tensor is counted once."""

    component: str
    mode: str
    parameters: int
    trainable: int
    learning_rate: float | None  # None where nothing is trainable
    weight_decay: float | None
    dtype: str


def component_of(name: str) -> str:
    """
    The component that a parameter of the model, or of a peft model around it, belongs to.

    The learnt newline between rows of tiles is part of the projector (the original trains and saves them together);
    the head is part of the language model.
    """
    parts = name.split(".")
    if "vision_tower" in parts:
        return "vision_tower"
    if "multi_modal_projector" in parts or "image_newline" in parts:
        return "multi_modal_projector"
    if "language_model" in parts or "lm_head" in parts:
        return "language_model"
    raise AssertionError(f"parameter {name!r} belongs to no component: {', '.join(COMPONENTS)}")


def apply_component_config(
    model: nn.Module, components: Mapping[str, ComponentConfig], frozen_dtype: torch.dtype | None = None
) -> None:
    """
    Freezes and unfreezes the parameters of a model in place.

    Trainable weights are float32, always: at a learning rate of 2e-5 most steps of a bfloat16 weight would be rounded
    away. What is frozen needs no such care and can be half as large.

    The newline vector of a checkpoint that is shown every image as one tile (`image_aspect_ratio` square or pad) is
    frozen in any mode: nothing of the model uses it, and a parameter that never gets a gradient is an error to DDP.

    Args:
        model (`nn.Module`):
            An OpenLlava model, not yet wrapped. Parameters of a component with `mode="lora"` are frozen here; their
            low-rank updates come from [`lora_config`].
        components (`Mapping[str, ComponentConfig]`):
            One per component.
        frozen_dtype (`torch.dtype`, *optional*):
            What frozen parameters are cast to; as they are by default.
    """
    has_unused_newline = _has_unused_newline(model)
    for name, parameter in model.named_parameters():
        is_trained = components[component_of(name)].mode == "full"
        if has_unused_newline and name.rpartition(".")[2] == "image_newline":
            if is_trained:
                logger.info("image_newline stays as it is: it stands between tiles, and images are shown as one tile")
            is_trained = False
        parameter.requires_grad_(is_trained)
        dtype = torch.float32 if is_trained else frozen_dtype
        if dtype is not None and parameter.is_floating_point() and parameter.dtype != dtype:
            parameter.data = parameter.data.to(dtype)


def _has_unused_newline(model: nn.Module) -> bool:
    config: Any = getattr(model, "config", None)
    return getattr(config, "has_image_newline", False) and not config.tiling_rule().is_tiled


def lora_config(model: nn.Module, components: Mapping[str, ComponentConfig]) -> Any:
    """
    The `peft.LoraConfig` of the components with `mode="lora"`; `None` if there is none.

    Targets are the linear layers of exactly those components (never the head), fully trained components go on as
    `modules_to_save`.
    """
    chosen = {name: component for name, component in components.items() if component.mode == "lora"}
    if not chosen:
        return None
    if "multi_modal_projector" in chosen:
        raise RecipeError(
            "the multi_modal_projector cannot be trained with `mode: lora`: it is small, and a fresh one has nothing "
            "that a low-rank update could start from. Use `full`."
        )
    settings = {(c.lora_rank, c.lora_alpha, c.lora_dropout) for c in chosen.values()}
    if len(settings) > 1:
        raise RecipeError(
            f"{' and '.join(chosen)} ask for different low-rank settings (rank, alpha, dropout) {sorted(settings)}, "
            "but one adapter has one. Give them the same."
        )
    if components["language_model"].mode == "full" or components["vision_tower"].mode == "full":
        raise RecipeError(
            "one component is trained in full and another with `lora`; only the projector can be trained in full "
            f"beside `lora`. Modes: { {name: component.mode for name, component in components.items()} }."
        )
    if components["multi_modal_projector"].mode == "full" and getattr(model.config, "has_image_newline", False):
        logger.warning(
            "peft cannot train the newline vector (image_newline) beside LoRA: it stays as it is. Starting from a "
            "language model it is random; start from a checkpoint that has learnt it, or train without LoRA."
        )
    from peft import LoraConfig  # only here: half a second that other runs need not pay

    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name != "lm_head" and component_of(name) in chosen
    ]
    (rank, alpha, dropout) = settings.pop()
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=rf"({'|'.join(re.escape(name) for name in targets)})",
        modules_to_save=["multi_modal_projector"] if components["multi_modal_projector"].mode == "full" else None,
    )


def component_table(
    model: nn.Module, components: Mapping[str, ComponentConfig], learning_rate: float, weight_decay: float
) -> list[ComponentRow]:
    """
    Counts what is trainable, as it is in the model and not as it was asked for.

    Args:
        model (`nn.Module`): The model, or a peft model around it.
        components (`Mapping[str, ComponentConfig]`): One per component.
        learning_rate, weight_decay (`float`): Of the recipe, for components without their own.
    """
    rows = []
    for component, config in components.items():
        parameters = [p for name, p in model.named_parameters() if component_of(name) == component]
        trainable = sum(p.numel() for p in parameters if p.requires_grad)
        rows.append(
            ComponentRow(
                component=component,
                mode=config.mode,
                parameters=sum(p.numel() for p in parameters),
                trainable=trainable,
                learning_rate=None if trainable == 0 else _own_or(config.learning_rate, learning_rate),
                weight_decay=None if trainable == 0 else _own_or(config.weight_decay, weight_decay),
                dtype="/".join(sorted({str(p.dtype).removeprefix("torch.") for p in parameters})),
            )
        )
    return rows


def format_table(rows: list[ComponentRow]) -> str:
    """The table as aligned text."""
    lines = [["component", "mode", "parameters", "trainable", "learning rate", "weight decay", "dtype"]]
    for row in rows:
        rate = "-" if row.learning_rate is None else f"{row.learning_rate:g}"
        decay = "-" if row.weight_decay is None else f"{row.weight_decay:g}"
        lines.append([row.component, row.mode, f"{row.parameters:,}", f"{row.trainable:,}", rate, decay, row.dtype])
    total, trainable = sum(row.parameters for row in rows), sum(row.trainable for row in rows)
    lines.append(["total", "", f"{total:,}", f"{trainable:,}", "", "", ""])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    is_number = [False, False, True, True, True, True, False]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(line, widths, is_number)
        ).rstrip()
        for line in lines
    )


def table_as_dicts(rows: list[ComponentRow]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]


def _own_or(own: float | None, otherwise: float) -> float:
    return otherwise if own is None else own


__all__ = [
    "ComponentRow",
    "apply_component_config",
    "component_of",
    "component_table",
    "format_table",
    "lora_config",
    "table_as_dicts",
]
