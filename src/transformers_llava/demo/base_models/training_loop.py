"""Minimize a loss over a fixed number of steps: the one training loop of the demo's base models."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from tqdm.auto import trange
from transformers import get_cosine_schedule_with_warmup


class LoopSettings(Protocol):
    """What the loop reads of [`VisionTowerSettings`] and [`LanguageModelSettings`]."""

    @property
    def num_steps(self) -> int: ...

    @property
    def learning_rate(self) -> float: ...

    @property
    def warmup_ratio(self) -> float: ...

    @property
    def max_grad_norm(self) -> float: ...


def minimize(
    model: torch.nn.Module,
    parameter_groups: Sequence[dict[str, Any]],
    compute_loss: Callable[[], torch.Tensor],
    settings: LoopSettings,
    *,
    title: str,
    progress: bool,
) -> list[float]:
    """
    Trains with AdamW, a cosine schedule with warmup, and clipped gradients.

    Args:
        model (`torch.nn.Module`): Whose gradients are clipped together.
        parameter_groups (`Sequence[dict]`): As AdamW takes them, each with its weight decay.
        compute_loss (`Callable[[], torch.Tensor]`): Chooses the next batch and returns its loss, a scalar.
        settings ([`LoopSettings`]): Steps, learning rate, warmup, where gradients are clipped.
        title (`str`): Of the progress bar.
        progress (`bool`): Whether to draw it.

    Returns:
        `list[float]`: The loss of every step.
    """
    optimizer = torch.optim.AdamW(parameter_groups, lr=settings.learning_rate, betas=(0.9, 0.98))
    warmup = round(settings.warmup_ratio * settings.num_steps)
    scheduler = get_cosine_schedule_with_warmup(optimizer, warmup, settings.num_steps)
    losses = []
    for _ in trange(settings.num_steps, desc=title, disable=not progress):
        loss = compute_loss()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def mean_of_last(values: Sequence[float]) -> float:
    """
    The mean of the last twentieth of the steps, of one step at least.

    >>> mean_of_last([9.0] * 38 + [1.0, 2.0])
    1.5
    """
    last = max(1, len(values) // 20)
    return sum(values[-last:]) / last


__all__ = ["LoopSettings", "mean_of_last", "minimize"]
