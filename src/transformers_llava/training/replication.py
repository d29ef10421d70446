"""The original trainer's order of samples, down to its random numbers, for runs to compare with its own."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers.trainer_pt_utils import BatchRebalanceSampler

from transformers_llava.data.formats import to_example_with_notes
from transformers_llava.data.grouping import group_by_modality
from transformers_llava.data.mixture import MixtureConfig
from transformers_llava.data.parsing import message_digest
from transformers_llava.data.reading import read_records
from transformers_llava.data.schema import Example, RecordError
from transformers_llava.data.sources import image_root_of


ORDERS = ("random", "modality_length")

# What separates a role from its answer: an answer that contains it breaks the original's count of tokens, and the
# whole sample is masked.
ROLE_MARKERS = {"vicuna_v1": " ASSISTANT: ", "llama_2": "[/INST] ", "llava_llama_2": "[/INST] "}


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
            Words per sample, negative without a picture: the lengths that `group_by_modality_length` sorts by.
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


def count_words(config: MixtureConfig, dataset: Dataset) -> list[int]:
    """
    Words of each example as the original counts them, negative without a picture.

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


def _words_as_written(config: MixtureConfig) -> Iterator[tuple[bytes, int]]:
    """Keys and words of the records that are of LLaVA's format and can be used."""
    for source in config.sources:
        image_root = image_root_of(source)
        for raw in read_records(source.path, revision=source.revision, split=source.split):
            turns = raw.record.get("conversations") if isinstance(raw.record, dict) else None
            if not isinstance(turns, list):
                continue
            try:
                example, _ = to_example_with_notes(
                    raw.record,
                    source=source.name,
                    image_root=image_root,
                    format=source.format,
                    default_id=raw.position,
                    allow_remote=source.remote_images == "fetch",
                    collapse_markers=source.collapse_markers,
                )
            except RecordError:  # it is not among the examples; the report of the mixture counts it
                continue
            yield _key(example), sum(len(str(turn.get("value", "")).split()) for turn in turns)


def _key(example: Example) -> bytes:
    """Published files use one id for several records, and a record may be taken twice, so the words count too."""
    return hashlib.sha256(f"{example['source']}\0{example['id']}\0".encode() + message_digest(example)).digest()


def _words_of(example: Example) -> int:
    parts = [part for message in example["messages"] for part in message["content"]]
    return sum(len((part.get("text") or "").split()) if part["type"] == "text" else 1 for part in parts)


def _draw_seed() -> int:
    return int(torch.empty((), dtype=torch.int64).random_().item())


__all__ = ["ORDERS", "ROLE_MARKERS", "OriginalOrder", "count_words"]
