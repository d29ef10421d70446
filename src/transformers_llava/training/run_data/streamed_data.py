"""Read records while the run trains on them, for a recipe with `streaming: true`."""

import json
import logging
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from transformers_llava.data.batches.collators import PackedCollator, PaddedCollator, RejectRecord
from transformers_llava.data.batches.streaming import StreamedMixture, StreamedPacks
from transformers_llava.data.schema import RecordError
from transformers_llava.data.tokens.counting import TokenCounter
from transformers_llava.modeling.processing_open_llava import OpenLlavaProcessor
from transformers_llava.training.agreement import Agreement
from transformers_llava.training.recipe.recipe_error import RecipeError
from transformers_llava.training.recipe.resolve import ResolvedRecipe
from transformers_llava.training.trainer import LlavaTrainer


logger = logging.getLogger(__name__)

REJECTIONS_NAME = "rejections.jsonl"


class RejectionFile:
    """
    What a stream left out, one JSON object a line: `record`, `reason`, `message`.

    Ranks and their workers append to one file, each line in one write. A record that is left out in every pass, or
    once more after resuming, stands there again; `count` counts it once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, error: RecordError) -> None:
        line = {"record": error.record_id, "reason": error.reason, "message": error.message}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as stream:
            stream.write((json.dumps(line) + "\n").encode())

    def count(self) -> Counter[str]:
        """Reason -> number of records."""
        if not self.path.is_file():
            return Counter()
        lines = [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
        return Counter(reason for _, reason in {(line["record"], line["reason"]) for line in lines})


class StreamedData:
    """
    What a streamed run reads.

    Args:
        resolved (`ResolvedRecipe`): Its mixture; `max_steps` says where it ends, for a stream has no length.
        processor (`OpenLlavaProcessor`): Gets the recipe's chat template, and counts tokens.

    Raises:
        `RecipeError`: The recipe asks for what a stream cannot give.
    """

    def __init__(self, resolved: ResolvedRecipe, processor: OpenLlavaProcessor) -> None:
        data, args = resolved.recipe.data, resolved.recipe.sft
        if args.max_steps <= 0:
            raise RecipeError(
                "`streaming` reads records as they come, so nobody knows how many steps an epoch has, and the "
                "learning rate could not be planned. Set `max_steps`."
            )
        processor.chat_template = resolved.chat_template_for(processor)
        counter = TokenCounter(processor, resolved.encoding_policy, look_at_images=False)
        world_size = max(1, args.world_size)
        self.rejections = RejectionFile(Path(args.output_dir) / REJECTIONS_NAME)
        self.on_error: RejectRecord | None = None if data.strict else self.rejections
        self.config = resolved.mixture
        try:
            self.packs = StreamedPacks(
                StreamedMixture(self.config, counter, strict=data.strict),
                self.rejections,
                global_batch_size=args.train_batch_size * args.gradient_accumulation_steps * world_size,
                world_size=world_size,
                accumulation_steps=args.gradient_accumulation_steps,
                rank=args.process_index if world_size > 1 else 0,
                window_steps=data.streaming_window,
            )
        except ValueError as error:
            raise RecipeError(f"`train_data` cannot be streamed: {error}") from error
        args.ignore_data_skip = True  # the stream passes over what was trained on, without opening its images

    lock = None  # nobody has counted what nobody has read

    def check(self, agreement: Agreement, checkpoint: str | None) -> None:
        """Nothing: nobody knows the examples before they are read."""

    def make_trainer(self, collator: PackedCollator | PaddedCollator, **arguments: Any) -> LlavaTrainer:
        """A trainer that takes its packs from the stream."""
        # TRL wants to see what kind of data it is: the examples of the first pass.
        dataset = datasets.IterableDataset.from_generator(self._examples)
        return StreamingTrainer(train_dataset=dataset, packs=self.packs, data_collator=collator, **arguments)

    def _examples(self) -> Any:
        for item in self.packs.mixture.read(0, lambda error: None):
            yield item.example

    def to_dict(self) -> dict[str, Any]:
        """What `run.json` says about the data."""
        return {
            "streaming": True,
            "window_steps": self.packs.window_steps,
            "sources": [
                {
                    "name": source.name,
                    "format": source.format,
                    "revision": source.revision,
                    "license": source.license,
                    "license_url": source.license_url,
                    "provenance": source.provenance,
                }
                for source in self.config.sources
            ],
            "dropped": dict(self.rejections.count()),
        }

    def report_left_out(self) -> None:
        """Logs what was left out while training."""
        for reason, num in sorted(self.rejections.count().items()):
            logger.warning("%s records left out (%s); each stands in %s", f"{num:,}", reason, REJECTIONS_NAME)

    def write(self, folder: Path) -> None:
        """Nothing: what was left out stands in its file already."""


class StreamingTrainer(LlavaTrainer):
    """
    [`LlavaTrainer`] that takes its packs from a stream.

    Args:
        packs (`StreamedPacks`): What this rank reads.
    """

    def __init__(self, *args: Any, packs: StreamedPacks, **kwargs: Any) -> None:
        self.packs = packs
        super().__init__(*args, lengths=[], **kwargs)
        self.add_callback(_StartOfStream(packs))

    def get_train_dataloader(self) -> DataLoader:
        """Packs are dealt to ranks and workers by the stream itself, so accelerate must not share them out again."""
        num_workers = self.args.dataloader_num_workers
        return DataLoader(
            self.packs,
            batch_size=None,
            collate_fn=self.data_collator,
            num_workers=num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            prefetch_factor=self.args.dataloader_prefetch_factor if num_workers else None,
        )

    def _records_of_step(self, step: int | None = None) -> list[str]:
        self.packs.first_step = self.state.global_step if step is None else step
        packs = islice(self.packs, self.args.gradient_accumulation_steps)
        return [f"{example['source']}/{example['id']}" for pack in packs for example in pack]


class _StartOfStream(TrainerCallback):
    """A resumed run begins where it stopped."""

    def __init__(self, packs: StreamedPacks) -> None:
        self.packs = packs

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.packs.first_step = state.global_step
        if state.global_step:
            logger.info("the stream passes over %s steps of records", f"{state.global_step:,}")


__all__ = ["REJECTIONS_NAME", "RejectionFile", "StreamedData", "StreamingTrainer"]
