"""Hidden states and labels to the next-token loss, without logits where nothing is supervised."""

from collections.abc import Callable

import torch
from torch import nn


def supervised_loss(
    hidden_states: torch.Tensor,
    labels: torch.Tensor,
    project: Callable[[torch.Tensor], torch.Tensor],
    num_items_in_batch: torch.Tensor | int | None = None,
    *,
    is_shifted: bool = False,
) -> torch.Tensor:
    """
    Cross entropy of the next token over supervised positions.

    In a LLaVA sample most positions are picture and question: of 600 positions of a caption sample 20 have a label.
    Only their hidden states go through the head, so that the `(sequence, vocabulary)` logits never exist. A compiled
    graph can not depend on that number and takes all positions. (TRL's trainer has a fused head of its own and does
    not call this; it does the same on GPUs.)

    Args:
        hidden_states (`torch.Tensor` of shape `(batch_size, sequence_length, hidden_size)`)
        labels (`torch.Tensor` of shape `(batch_size, sequence_length)`): -100 is not supervised.
        project (`Callable`): Hidden states to logits.
        is_shifted (`bool`, *optional*, defaults to `False`): Whether `labels` already stand at the position before
            their token, as context and sequence parallelism pass them.
        num_items_in_batch (`int`, *optional*): Divisor of the summed loss; by default the supervised positions.

    Returns:
        `torch.Tensor`: A scalar in float32. Without any supervised position it is 0 with zero gradients, not NaN.
    """
    targets = labels if is_shifted else nn.functional.pad(labels, (0, 1), value=-100)[:, 1:]
    targets = targets.to(hidden_states.device)
    if torch.compiler.is_compiling():
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


__all__ = ["supervised_loss"]
