"""Compute logits from hidden states, and a balancing loss from router choices, for any decoder family."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def project_hidden_states(
    hidden_states: torch.Tensor, lm_head: Callable[[torch.Tensor], torch.Tensor], text_config: Any
) -> torch.Tensor:
    """
    Logits, with the scaling and soft cap of decoders that have one (Cohere, Granite, Falcon-H1, Gemma 2).

    Args:
        hidden_states (`torch.Tensor` of shape `(..., hidden_size)`)
        lm_head: The linear layer.
        text_config: Of the language model.

    Returns:
        `torch.Tensor` of shape `(..., vocab_size)`
    """
    logits = lm_head(hidden_states)
    for name in ("logit_scale", "lm_head_multiplier", "output_multiplier"):
        if isinstance(scale := read_setting(text_config, name), float):
            logits = logits * scale
    if (scaling := read_setting(text_config, "logits_scaling")) is not None:
        logits = logits * scaling if text_config.model_type == "hyperclovax" else logits / scaling
    cap = read_setting(text_config, "final_logit_softcapping")
    return logits if cap is None else cap * torch.tanh(logits / cap)


def select_positions(hidden_states: torch.Tensor, positions: torch.Tensor | None) -> torch.Tensor:
    """
    The hidden states that a loss is computed of, before they meet the head.

    Args:
        hidden_states (`torch.Tensor` of shape `(batch_size, sequence_length, hidden_size)`)
        positions (`torch.Tensor` of shape `(num_positions,)`, *optional*): Of all rows one after another.

    Returns:
        `torch.Tensor` of shape `(1, num_positions, hidden_size)`; without positions what was given.
    """
    if positions is None:
        return hidden_states
    return hidden_states.flatten(0, 1).index_select(0, positions.to(hidden_states.device))[None]


def read_setting(config: Any, name: str) -> Any:
    """
    A field that only some configurations have, or `None`.

    `getattr` says the same, but a configuration looks for a missing name in several places and words an error before
    it gives up; six such questions were a tenth of the host's time in each step of decoding.
    """
    if torch.compiler.is_compiling():  # the compiler knows `getattr`, and asks once
        return getattr(config, name, None)
    return config.__dict__.get(name, getattr(type(config), name, None))


def balance_experts(
    router_logits: tuple[torch.Tensor, ...], attention_mask: torch.Tensor | None, text_config: Any
) -> torch.Tensor:
    """The load-balancing loss of the Switch Transformer, as every mixture of experts in transformers has it."""
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    num_experts = getattr(text_config, "num_local_experts", None) or text_config.num_experts
    return load_balancing_loss_func(router_logits, num_experts, text_config.num_experts_per_tok, attention_mask)


def supervised_loss(
    hidden_states: torch.Tensor,
    labels: torch.Tensor,
    project: Callable[[torch.Tensor], torch.Tensor],
    num_items_in_batch: torch.Tensor | int | None = None,
    *,
    is_shifted: bool = False,
    positions: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Cross entropy of the next token over supervised positions.

    In a LLaVA sample most positions are image and question: of 600 positions of a caption sample 20 have a label.
    Only their hidden states go through the head, so that the `(sequence, vocabulary)` logits never exist. A compiled
    graph cannot depend on that number and takes all positions. To find the positions on a device the host waits for
    it, unless whoever made the batch says them: see [`select_positions`]. (TRL's trainer has a fused head of its own
    and does not call this; it finds them on GPUs, and elsewhere scores every position that it is given.)

    Args:
        hidden_states (`torch.Tensor` of shape `(batch_size, sequence_length, hidden_size)`)
        labels (`torch.Tensor` of shape `(batch_size, sequence_length)`): -100 is not supervised.
        project (`Callable`): Hidden states to logits.
        is_shifted (`bool`, *optional*, defaults to `False`): Whether `labels` already stand at the position before
            their token, as context and sequence parallelism pass them.
        positions (`torch.Tensor` of shape `(num_positions,)`, *optional*): Those to score, see [`select_positions`].
            `labels` are then of these alone, `(1, num_positions)`, and shifted.
        num_items_in_batch (`int`, *optional*): Divisor of the summed loss; by default the supervised positions.

    Returns:
        `torch.Tensor`: A scalar in float32. Without any supervised position it is 0 with zero gradients, not NaN.
    """
    targets = labels if is_shifted or positions is not None else nn.functional.pad(labels, (0, 1), value=-100)[:, 1:]
    hidden_states = select_positions(hidden_states, positions)
    targets = targets.to(hidden_states.device)
    if positions is not None or torch.compiler.is_compiling():
        logits, targets = project(hidden_states).flatten(0, 1), targets.flatten()
    else:
        is_supervised = targets != -100
        logits, targets = project(hidden_states[is_supervised]), targets[is_supervised]
    targets = targets.to(logits.device)  # with a device map the head may lie elsewhere
    summed = nn.functional.cross_entropy(logits.float(), targets, ignore_index=-100, reduction="sum")
    if num_items_in_batch is None:
        return summed / (targets != -100).sum().clamp(min=1)
    if isinstance(num_items_in_batch, torch.Tensor):
        num_items_in_batch = num_items_in_batch.to(summed.device)
    return summed / num_items_in_batch


__all__ = ["balance_experts", "project_hidden_states", "read_setting", "select_positions", "supervised_loss"]
