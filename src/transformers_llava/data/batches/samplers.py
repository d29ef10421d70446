"""Draw the optimizer steps of an epoch from lengths and a seed, and deal each into packs."""

from collections.abc import Iterator, Sequence

import torch
from transformers.trainer_pt_utils import BatchRebalanceSampler

from transformers_llava.data.batches.packing import PackingReport, partition_step


class PackedBatchSampler(BatchRebalanceSampler):
    """
    Yields the packs of one rank, one list of indices per micro-step.

    Contract: which examples an optimizer step sees depends on `seed`, epoch and `global_batch_size` alone; world size
    and accumulation only decide how they are dealt into packs. `Trainer` recognises the base class and hands batches
    through unchanged, without sharding them a second time.

    Args:
        lengths (`Sequence[int]`):
            Tokens per example.
        has_image (`Sequence[bool]`):
            Whether each has an image.
        global_batch_size (`int`):
            Examples per optimizer step, over all ranks and micro-steps. The last step of an epoch takes what is left;
            where that is less than one example for each pack, the rest of the packs are empty.
        world_size (`int`, *optional*, defaults to 1), accumulation_steps (`int`, *optional*, defaults to 1):
            Their product is the number of packs per step.
        rank (`int`, *optional*, defaults to 0):
            Whose packs are yielded.
        seed (`int`, *optional*, defaults to 0):
            Epoch e is a permutation drawn with `seed + e`; `set_epoch` says which.
        shuffle (`bool`, *optional*, defaults to `True`):
            `False` takes the examples in their order.
        image_cost (`int`, *optional*, defaults to 0):
            See `plan_step`.
        padded (`bool`, *optional*, defaults to `False`):
            The micro-batches will be padded rows and no packs: as many examples in each, of similar lengths.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        has_image: Sequence[bool],
        *,
        global_batch_size: int,
        world_size: int = 1,
        accumulation_steps: int = 1,
        rank: int = 0,
        seed: int = 0,
        shuffle: bool = True,
        image_cost: int = 0,
        padded: bool = False,
    ) -> None:
        if len(lengths) != len(has_image):
            raise ValueError(f"{len(lengths)} lengths but {len(has_image)} image flags: one of each per example.")
        if global_batch_size < world_size * accumulation_steps:
            raise ValueError(
                f"a global batch of {global_batch_size} examples cannot fill {world_size} x {accumulation_steps} "
                "packs. Use fewer accumulation steps or a larger batch."
            )
        if not lengths:
            raise ValueError("there is no example, so there would be no step.")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not one of {world_size} ranks.")
        super().__init__(
            lengths=lengths,
            effective_batch_size=global_batch_size,
            dp_size=world_size,
            grad_accum=accumulation_steps,
            shuffle=shuffle,
            seed=seed,
            rank=rank,
            drop_last=False,
        )
        self.has_image = list(has_image)
        self.image_cost = image_cost
        self.padded = padded

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._dealt_steps():
            yield from step[self.rank]

    def steps(self) -> Iterator[list[list[int]]]:
        """All packs of every step of this epoch, on all ranks."""
        for step in self._dealt_steps():
            yield [pack for rank in step for pack in rank]

    def _dealt_steps(self) -> Iterator[list[list[list[int]]]]:
        """Step by step: [rank][micro-step] -> indices."""
        order = self._order()
        for start in range(0, len(order), self.effective_batch_size):
            indices = order[start : start + self.effective_batch_size]
            dealt = partition_step(
                [self.lengths[index] for index in indices],
                [self.has_image[index] for index in indices],
                world_size=self.dp_size,
                accumulation_steps=self.grad_accum,
                image_cost=self.image_cost,
                padded=self.padded,
            )
            yield [[[indices[place] for place in pack] for pack in rank] for rank in dealt]

    def report(self, *, max_length: int | None = None) -> PackingReport:
        """The packing of this epoch."""
        return PackingReport.of_steps(
            self.steps(), self.lengths, self.has_image, image_cost=self.image_cost, max_length=max_length
        )

    def _order(self) -> list[int]:
        if not self.shuffle:
            return list(range(len(self.lengths)))
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return torch.randperm(len(self.lengths), generator=generator).tolist()


__all__ = ["PackedBatchSampler"]
