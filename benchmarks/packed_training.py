"""Compare useful tokens per second of one pack with TRL's padded batch and the built-in model.

    python -m benchmarks.packed_training --json benchmarks/results/cpu.json

Sixteen examples of the 665K mixture's stand-in (`stand_in.py`; sources, lengths and shares as published), as many as
the recipe gives each GPU. TRL's stock vision collator pads them, in random order and in the order of transformers'
`LengthGroupedSampler`; ours packs the same sixteen. Of many such batches the one with the median share of padding is
taken. Then forward, backward (with the fused head that TRL puts on both models) and AdamW, as in stage 2: the tower is
frozen. Of our pack the head sees the supervised positions alone, as the collator says them; two lines compare that
with the same pack without them. A useful token is one that is no padding. The models are small: 320 wide, two layers,
and ids are folded into a vocabulary of 1,024, so that the head's share of the work is about that of a 7B; in the small
model, 192 wide with a vocabulary of 2,048, its share is larger. Exit status 1 if a target is missed.
"""

import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness.ceilings import count_flops, matmul_rate
from benchmarks.harness.command import main
from benchmarks.harness.models import make_pair
from benchmarks.harness.results import Comparison, compared
from benchmarks.harness.timing import take_turns
from transformers_llava.data.batches.collators import SUPERVISED_NAMES, PackedCollator, add_supervised_positions


BATCH_SIZE = 16
IMAGE_ID, VOCABULARY = 1020, 1024
NUM_BATCHES = 61  # from which the median one is taken
EVERY_POSITION = "the same without supervised_positions: TRL's fused head scores every position on a CPU"
BUILTIN = "TRL's padded vision collator, built-in LlavaForConditionalGeneration with TRL's fused head"


def measure(
    repeats: int, *, scale: float = 0.003, hidden: int = 320, small_hidden: int = 192, batch_size: int = BATCH_SIZE
) -> list[Comparison]:
    """The lines of this question; the sizes are arguments so that a test can make them small."""
    ours, builtin = make_pair(
        vision_hidden=64,
        vision_layers=4,
        hidden=hidden,
        layers=2,
        vocabulary=VOCABULARY,
        image_token=IMAGE_ID,
        attention="varlen",
    )
    steps = [_training_step(model) for model in (ours, builtin)]
    with tempfile.TemporaryDirectory() as folder:
        examples = _Examples(Path(folder), scale)
        found = []
        for order, target in (("random", 1.5), ("length-grouped", 0.97)):
            indices, notes = examples.typical_batch(order, batch_size)
            packed, padded = examples.pack(indices), examples.pad(indices)
            found.append(_compare(f"training step, {order} order", steps, packed, padded, repeats, target, notes))
            if order == "random":
                found += _supervised(steps[0], packed, repeats, small_hidden)
        few = examples.pad(indices[:4])
    ours.set_attn_implementation("sdpa")
    found.append(_compare("training step, the same padded batch", steps, few, few, 3 * repeats, 0.97, {}))
    return found


def _supervised(
    step: Callable[[dict], float], packed: dict[str, Any], repeats: int, small_hidden: int
) -> list[Comparison]:
    """One pack with and without its supervised positions, in two models: the head is more of the small one."""
    small, _ = make_pair(
        vision_hidden=64,
        vision_layers=4,
        hidden=small_hidden,
        layers=2,
        vocabulary=2 * VOCABULARY,
        image_token=IMAGE_ID,
        attention="varlen",
    )
    every = {name: value for name, value in packed.items() if name not in SUPERVISED_NAMES}
    name, found = "training step, supervised positions", []
    for size, run, target in (("", step, 1.0), (", small model", _training_step(small), 1.3)):
        found.append(_compare(name + size, [run, run], packed, every, repeats, target, {}, other_is=EVERY_POSITION))
    return found


def _compare(
    name: str,
    steps: Sequence[Callable[[dict], float]],
    packed: dict[str, Any],
    padded: dict[str, Any],
    repeats: int,
    target: float,
    notes: dict[str, Any],
    *,
    other_is: str = BUILTIN,
) -> Comparison:
    """Our step on the first batch against the other's on the second, which is the same samples."""
    useful = int(padded["attention_mask"].sum()) if "attention_mask" in padded else padded["input_ids"].numel()
    ours, other = steps[0], steps[1]
    losses = ours(packed), other(padded)
    assert abs(losses[0] - losses[1]) < 1e-4 * losses[1], losses
    flops = count_flops(lambda: ours(packed))
    is_packed = "cu_seq_lens_q" in packed
    return compared(
        take_turns(lambda: ours(packed), lambda: other(padded), repeats=repeats, warmups=0),
        amount=useful,
        unit="useful tokens/s",
        name=name,
        ours_is="PackedCollator, varlen attention, our model with TRL's fused head" if is_packed else "our model",
        other_is=other_is,
        checked=f"losses: {losses[0]:.6f} and {losses[1]:.6f}",
        at_least=target,
        floor=round(useful * matmul_rate() / flops),
        floor_is="useful tokens per counted operation of ours, at the rate of a large matrix product on this machine",
        notes={
            "useful_tokens": useful,
            "supervised": int((packed["labels"] != -100).sum()),
            "positions": {"ours": packed["input_ids"].numel(), "other": padded["input_ids"].numel()},
            **notes,
        },
    )


def _training_step(model: Any) -> Callable[[dict], float]:
    """Batch to loss: forward, backward and AdamW, at a learning rate of 0 so that every turn does the same step."""
    from trl.trainer.utils import add_fused_lm_head

    model.train().requires_grad_(True)
    model.model.vision_tower.requires_grad_(False)
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))  # as SFTTrainer asks for them
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.0)

    def step(batch: dict[str, Any]) -> float:
        labels = batch["labels"]
        num_items = int((labels[:, 1:] != -100).sum())
        loss = model(**batch, fused_lm_head=True, num_items_in_batch=num_items, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


class _Examples:
    """The stand-in's examples: their lengths, and batches of them from both collators."""

    def __init__(self, folder: Path, scale: float) -> None:
        import datasets
        from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

        from benchmarks.stand_in import make_processor, write_stand_in
        from transformers_llava.data.mixture.config import SourceConfig
        from transformers_llava.data.mixture.source import load_source
        from transformers_llava.data.tokens.counting import measure_example

        path = write_stand_in(folder, scale=scale, num_images=12)
        self.processor = make_processor(folder)
        source = SourceConfig("mix665k", str(path), image_root=str(folder))
        self.dataset, _ = load_source(source, cache_dir=folder / "cache")
        self.decoded = self.dataset.cast_column("images", datasets.List(datasets.Image()))
        self.lengths = [measure_example(example, self.processor).num_tokens for example in self.dataset]
        self._packed = PackedCollator(self.processor)
        self._padded = DataCollatorForVisionLanguageModeling(self.processor, assistant_only_loss=True)

    def typical_batch(self, order: str, batch_size: int) -> tuple[list[int], dict[str, Any]]:
        """The batch with the median padding of an order, and what the padding of all of them is."""
        from transformers.trainer_pt_utils import LengthGroupedSampler

        generator = torch.Generator().manual_seed(0)
        if order == "random":
            indices = torch.randperm(len(self.lengths), generator=generator).tolist()
        else:
            indices = list(LengthGroupedSampler(batch_size, lengths=self.lengths, generator=generator))
        batches = [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
        batches = [batch for batch in batches if len(batch) == batch_size][:NUM_BATCHES]
        ratios = [self._positions_per_token(batch) for batch in batches]
        middle = statistics.median_low(ratios)
        mean = statistics.fmean(ratios)
        notes = {"positions_per_useful_token": round(middle, 3), "mean_over_batches": round(mean, 3)}
        return batches[ratios.index(middle)], notes | {"num_batches": len(batches)}

    def pack(self, indices: list[int]) -> dict[str, Any]:
        return _fold(self._packed([self.dataset[index] for index in indices]), self.processor.image_token_id)

    def pad(self, indices: list[int]) -> dict[str, Any]:
        batch = dict(self._padded([self.decoded[index] for index in indices]))
        batch.pop("image_sizes", None)  # the built-in model does not ask for them
        return _fold(batch, self.processor.image_token_id)

    def _positions_per_token(self, batch: list[int]) -> float:
        lengths = [self.lengths[index] for index in batch]
        return max(lengths) * len(lengths) / sum(lengths)


def _fold(batch: dict[str, Any], image_token_id: int) -> dict[str, Any]:
    """Ids of 32,000 to 1,016 of them; equal ids stay equal, images stay images, unsupervised stays so."""
    ids, labels = batch["input_ids"], batch["labels"]
    folded = torch.where(ids == image_token_id, IMAGE_ID, ids % 1016 + 4)
    batch = batch | {"input_ids": folded, "labels": torch.where(labels == -100, -100, folded)}
    return add_supervised_positions(batch) if "supervised_positions" in batch else batch


if __name__ == "__main__":
    sys.exit(main("packed_training", measure, repeats=2, clock="CPU time"))
