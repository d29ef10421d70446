"""Lengths to the orders of the original's padded training: global batches of one modality and of similar lengths.

These rules reproduce recorded runs of LLaVA and LLaVA-NeXT, down to which random generator is asked how often, so they
are kept as they are, oddities included. `packing` is the way to train today.
"""

from collections.abc import Callable, Sequence

import torch
from transformers.trainer_pt_utils import get_length_grouped_indices


def group_by_length(
    lengths: Sequence[int], batch_size: int, num_parts: int, generator: torch.Generator | None = None
) -> list[int]:
    """
    Random global batches, each sorted by length and split so that every part costs about the same.

    Args:
        lengths (`Sequence[int]`):
            Length per example.
        batch_size (`int`):
            Examples per part, that is per rank and micro-step.
        num_parts (`int`):
            World size times accumulation steps.
        generator (`torch.Generator`, *optional*):
            By default torch's global one.
    """
    order = torch.randperm(len(lengths), generator=generator).tolist()
    batches = [_balanced(batch, lengths, num_parts) for batch in _chunks(order, batch_size * num_parts)]
    return [index for batch in batches for index in batch]


def group_by_length_then_shuffle(
    lengths: Sequence[int], batch_size: int, num_parts: int, generator: torch.Generator | None = None
) -> list[int]:
    """LLaVA-NeXT's "auto" rule: similar lengths over 50 global batches at a time, and the batches shuffled after."""
    order = get_length_grouped_indices(list(lengths), batch_size * num_parts, generator=generator)
    batches = [_balanced(batch, lengths, num_parts) for batch in _chunks(order, batch_size * num_parts)]
    return [index for place in _permutation(len(batches), generator) for index in batches[place]]


def group_by_modality(
    lengths: Sequence[int], batch_size: int, num_parts: int, generator: torch.Generator | None = None
) -> list[int]:
    """
    LLaVA's `group_by_modality_length`: global batches of one modality, then one mixed batch of what is left.

    `lengths` are negative for examples without a picture. Only the order of the batches asks `generator`; what is in
    them asks torch's global one.
    """
    if _is_one_modality(lengths):
        return group_by_length(lengths, batch_size, num_parts, generator)  # text stays negative: shortest first
    batches, remainder = _batches_by_modality(lengths, batch_size, num_parts, group_by_length)
    order = [index for place in _permutation(len(batches), generator) for index in batches[place]]
    return order + sorted(remainder)


def group_by_modality_auto(
    lengths: Sequence[int], batch_size: int, num_parts: int, generator: torch.Generator | None = None
) -> list[int]:
    """LLaVA-NeXT's `group_by_modality_length_auto`. It leaves the last batch of each modality out."""
    if _is_one_modality(lengths):
        return group_by_length_then_shuffle(lengths, batch_size, num_parts, generator)
    batches, _ = _batches_by_modality(lengths, batch_size, num_parts, group_by_length_then_shuffle)
    return [index for place in _permutation(len(batches), generator) for index in batches[place]]


def group_by_variable_length(
    lengths: Sequence[int], batch_size: int, num_parts: int, generator: torch.Generator | None = None
) -> list[int]:
    """LLaVA-NeXT's `group_by_varlen`: eight global batches of similar length are mixed, then all batches shuffled."""
    rank = _permutation(len(lengths), generator)
    by_length = sorted(range(len(lengths)), key=lambda index: lengths[index], reverse=True)
    mixed = [
        index
        for group in _chunks(by_length, batch_size * num_parts * 8)
        for index in sorted(group, key=lambda index: rank[index], reverse=True)
    ]
    batches = _chunks(mixed, batch_size * num_parts)
    return [index for place in _permutation(len(batches), generator) for index in batches[place]]


GroupingRule = Callable[[Sequence[int], int, int, torch.Generator | None], list[int]]

GROUPING_RULES: dict[str, GroupingRule] = {
    "modality": group_by_modality,
    "modality_auto": group_by_modality_auto,
    "variable_length": group_by_variable_length,
}


def _is_one_modality(lengths: Sequence[int]) -> bool:
    return all(length > 0 for length in lengths) or all(length < 0 for length in lengths)


def _batches_by_modality(
    lengths: Sequence[int], batch_size: int, num_parts: int, rule: GroupingRule
) -> tuple[list[list[int]], list[int]]:
    """Global batches of one modality each; the last batch of both, complete or not, is returned apart."""
    batches: list[list[int]] = []
    remainder: list[int] = []
    for sign in (1, -1):
        indices = [index for index, length in enumerate(lengths) if length * sign > 0]
        order = rule([abs(lengths[index]) for index in indices], batch_size, num_parts, None)
        chunks = _chunks([indices[place] for place in order], batch_size * num_parts)
        batches += chunks[:-1]
        remainder += chunks[-1]
    return batches, remainder


def _balanced(batch: list[int], lengths: Sequence[int], num_parts: int) -> list[int]:
    """One global batch, longest first, dealt into parts of equal count and about equal length; part after part."""
    by_length = sorted(batch, key=lambda index: lengths[index], reverse=True)
    if len(by_length) % num_parts:  # parts of unequal count: by turns
        return [index for start in range(num_parts) for index in by_length[start::num_parts]]
    parts: list[list[int]] = [[] for _ in range(num_parts)]
    totals = [0.0] * num_parts
    for index in by_length:
        lightest = totals.index(min(totals))
        parts[lightest].append(index)
        is_full = len(parts[lightest]) == len(by_length) // num_parts
        totals[lightest] = float("inf") if is_full else totals[lightest] + lengths[index]
    return [index for part in parts for index in part]


def _permutation(length: int, generator: torch.Generator | None) -> list[int]:
    return torch.randperm(length, generator=generator).tolist()


def _chunks(indices: list[int], size: int) -> list[list[int]]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]


__all__ = [
    "GROUPING_RULES",
    "GroupingRule",
    "group_by_length",
    "group_by_length_then_shuffle",
    "group_by_modality",
    "group_by_modality_auto",
    "group_by_variable_length",
]
