"""Order examples as the original's padded training: global batches of one modality and of similar lengths.

These rules reproduce recorded runs of LLaVA and LLaVA-NeXT, down to which random generator is asked how often, so they
are kept as they are, oddities included. `packing` is the way to train today.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers.trainer_pt_utils import BatchRebalanceSampler

from transformers_llava.data.mixture.config import MixtureConfig
from transformers_llava.data.mixture.source import image_root_of, record_rules_of
from transformers_llava.data.records.readers import read_records
from transformers_llava.data.records.record_formats import to_example
from transformers_llava.data.records.record_store import message_digest
from transformers_llava.data.schema import Example, RecordError


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


def group_by_modality(
    lengths: Sequence[int], batch_size: int, num_parts: int, generator: torch.Generator | None = None
) -> list[int]:
    """
    LLaVA's `group_by_modality_length`: global batches of one modality, then one mixed batch of what is left.

    `lengths` are negative for examples without an image. Only the order of the batches asks `generator`; what is in
    them asks torch's global one.
    """
    if _is_one_modality(lengths):
        return group_by_length(lengths, batch_size, num_parts, generator)  # text stays negative: shortest first
    batches, remainder = _batches_by_modality(lengths, batch_size, num_parts)
    order = [index for place in _permutation(len(batches), generator) for index in batches[place]]
    return order + sorted(remainder)


def _is_one_modality(lengths: Sequence[int]) -> bool:
    return all(length > 0 for length in lengths) or all(length < 0 for length in lengths)


def _batches_by_modality(lengths: Sequence[int], batch_size: int, num_parts: int) -> tuple[list[list[int]], list[int]]:
    """Global batches of one modality each; the last batch of both, complete or not, is returned apart."""
    batches: list[list[int]] = []
    remainder: list[int] = []
    for sign in (1, -1):
        indices = [index for index, length in enumerate(lengths) if length * sign > 0]
        order = group_by_length([abs(lengths[index]) for index in indices], batch_size, num_parts)
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


ORDERS = ("random", "modality_length")


# What separates a role from its answer: an answer that contains it breaks the original's count of tokens, and the
# whole sample is masked.
ROLE_MARKERS = {"vicuna_v1": " ASSISTANT: ", "llama_2": "[/INST] ", "llava_llama_2": "[/INST] "}


def _key(example: Example) -> bytes:
    """Published files use one id for several records, and a record may be taken twice, so the words count too."""
    return hashlib.sha256(f"{example['source']}\0{example['id']}\0".encode() + message_digest(example)).digest()


def _words_as_written(config: MixtureConfig) -> Iterator[tuple[bytes, int]]:
    """Keys and words of the records that are of LLaVA's format and can be used."""
    for source in config.sources:
        rules = record_rules_of(source, image_root_of(source))
        for raw in read_records(source.path, revision=source.revision, split=source.split):
            turns = raw.record.get("conversations") if isinstance(raw.record, dict) else None
            if not isinstance(turns, list):
                continue
            try:
                example, _ = to_example(raw.record, rules, raw.position)
            except RecordError:  # it is not among the examples; the report of the mixture counts it
                continue
            yield _key(example), sum(len(str(turn.get("value", "")).split()) for turn in turns)


def _words_of(example: Example) -> int:
    parts = [part for message in example["messages"] for part in message["content"]]
    return sum(len((part.get("text") or "").split()) if part["type"] == "text" else 1 for part in parts)


def count_words(config: MixtureConfig, dataset: Dataset) -> list[int]:
    """
    Words of each example as the original counts them, negative without an image.

    It counts the words of every turn as written, markers and turns that it drops later included, so the files are read
    again, and examples are found by their content; one that is not of LLaVA's format is counted as it is.
    """
    written = dict(_words_as_written(config))
    counts = []
    for row in dataset:
        example: Any = row
        words = written.get(_key(example), _words_of(example))
        counts.append(words * (1 if example["images"] else -1))
    return counts


def _draw_seed() -> int:
    return int(torch.empty((), dtype=torch.int64).random_().item())


class OriginalOrder(BatchRebalanceSampler):
    """
    Yields the padded batches of one rank in the order of the original's trainer (transformers 4.37).

    The random state is torch's, seeded once; each epoch takes one number from it (the loader's) and then those of the
    sampler: of a random order the seed of a permutation, of `group_by_modality_length` what its shuffles ask. With
    dropout on a CPU the original takes more in between, and its later epochs cannot be told from outside.

    Recorded is one process; with several, consecutive batches go to consecutive ranks and a last incomplete round is
    filled from the beginning of the epoch, as accelerate does. Micro-batches that do not fill an accumulation at the
    end of an epoch are left out, as the original makes no step of them.

    Args:
        num_words (`Sequence[int]`):
            Words per sample, negative without an image: the lengths that `group_by_modality_length` sorts by.
        order (`str`):
            `random` or `modality_length`.
        batch_size (`int`), world_size (`int`), accumulation_steps (`int`), rank (`int`):
            Samples of a micro-batch of one rank; ranks; micro-batches of a step; whose batches are yielded.
        seed (`int`):
            Of the trainer.
    """

    def __init__(
        self,
        num_words: Sequence[int],
        *,
        order: str,
        batch_size: int,
        world_size: int,
        accumulation_steps: int,
        rank: int,
        seed: int,
    ) -> None:
        if order not in ORDERS:
            raise ValueError(f"the order must be one of {', '.join(ORDERS)}, not {order!r}.")
        if order == "modality_length" and 0 in num_words:
            raise ValueError("a sample has no word, so no length to be sorted by. Remove it; the original stops too.")
        super().__init__(
            lengths=list(num_words),
            effective_batch_size=batch_size * world_size * accumulation_steps,
            dp_size=world_size,
            grad_accum=accumulation_steps,
            seed=seed,
            rank=rank,
        )
        self.order, self.batch_size = order, batch_size
        num_rounds = -(-len(self.lengths) // (batch_size * world_size))
        self.num_global_batches = max(1, num_rounds // accumulation_steps)
        self.rounds_of_step = min(accumulation_steps, num_rounds)

    def __len__(self) -> int:
        return self.num_global_batches * self.rounds_of_step

    def __iter__(self) -> Iterator[list[int]]:
        indices = self._indices()
        round_size = self.batch_size * self.dp_size
        if self.dp_size > 1:
            indices = indices + indices[: -len(indices) % round_size]
        for number in range(len(self)):
            start = number * round_size + self.rank * self.batch_size
            yield indices[start : start + self.batch_size]

    def _indices(self) -> list[int]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            for _ in range(self.epoch + 1):
                _draw_seed()  # the loader's, for its workers
                if self.order == "random":
                    generator = torch.Generator().manual_seed(_draw_seed())
                    indices = torch.randperm(len(self.lengths), generator=generator).tolist()
                else:
                    indices = group_by_modality(self.lengths, self.batch_size, self.dp_size * self.grad_accum)
        return indices


__all__ = [
    "ORDERS",
    "OriginalOrder",
    "ROLE_MARKERS",
    "count_words",
    "group_by_length",
    "group_by_modality",
]
