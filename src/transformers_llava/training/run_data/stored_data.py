"""Read and measure all examples of a recipe before the run, and report what was left out."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainingArguments

from transformers_llava.data.batches.collators import PackedCollator, PaddedCollator
from transformers_llava.data.batches.original_order import OriginalOrder, count_words
from transformers_llava.data.cache import write_whole
from transformers_llava.data.mixture.lock import count_tokens_of_sources, make_lock, write_lock
from transformers_llava.data.mixture.mixture_building import build_mixture
from transformers_llava.data.reports import LengthReport, MixtureReport
from transformers_llava.data.schema import RecordError
from transformers_llava.data.tokens.counting import ExampleLength
from transformers_llava.data.tokens.length_filter import measure_examples
from transformers_llava.modeling.processing_open_llava import OpenLlavaProcessor
from transformers_llava.training.agreement import Agreement
from transformers_llava.training.checkpoints.resume import check_same_data
from transformers_llava.training.recipe.recipe import Recipe
from transformers_llava.training.recipe.recipe_error import RecipeError
from transformers_llava.training.recipe.resolve import ResolvedRecipe
from transformers_llava.training.trainer import LlavaTrainer


logger = logging.getLogger(__name__)

MIXTURE_REPORT_NAME = "mixture.md"


@dataclass(frozen=True)
class StoredData:
    """
    Examples on disk with the length of each, ready for the trainer.

    Args:
        resolved (`ResolvedRecipe`): What was asked for.
        dataset (`Dataset`): Examples that can be trained on, in order.
        lengths (`list[ExampleLength]`): Tokens of each, and whether it has an image.
        mixture (`MixtureReport`): What was read, kept and left out, by source and reason.
        report (`LengthReport`): What became of the kept ones once template and `max_length` were known.
        lock (`dict`): The facts of the mixture, written as `mixture.lock.json`.
    """

    resolved: ResolvedRecipe
    dataset: Dataset
    lengths: list[ExampleLength]
    mixture: MixtureReport
    report: LengthReport
    lock: dict[str, Any]

    on_error = None  # what cannot be encoded was left out when it was measured

    @property
    def num_rejected(self) -> int:
        """Records that were left out, for whatever reason."""
        return self.mixture.num_dropped + sum(self.report.dropped.values())

    def check(self, agreement: Agreement, checkpoint: str | None) -> None:
        """As [`RunData.check`]: by the digest of the examples in their order."""
        agreement.check_same(
            f"{len(self.dataset):,} examples, {self.report.num_tokens:,} tokens ({self.mixture.order_digest})",
            "the data they read",
            "Give all machines the same records and images; `llava data verify` names the source that differs.",
        )
        check_same_data(checkpoint, self.mixture.order_digest)

    def to_dict(self) -> dict[str, Any]:
        """What `run.json` says about the data."""
        return {**self.mixture.to_dict(), "lengths": self.report.to_dict()}

    def make_trainer(self, collator: PackedCollator | PaddedCollator, **arguments: Any) -> LlavaTrainer:
        """A trainer that deals out the examples by their lengths, or in the original's order where that is asked."""
        return LlavaTrainer(
            train_dataset=self.dataset,
            lengths=self.lengths,
            data_collator=collator,
            num_rejected=self.num_rejected,
            original_order=self._original_order() if self.resolved.recipe.data.replicate else None,
            **arguments,
        )

    def report_left_out(self) -> None:
        """Nothing more: all of it was reported before the run."""

    def write(self, folder: Path) -> None:
        """The table of the mixture, and its lock."""
        text = self.mixture.to_markdown()
        write_whole(folder / MIXTURE_REPORT_NAME, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))
        write_lock(self.lock, folder)

    def _original_order(self) -> Callable[[TrainingArguments], OriginalOrder]:
        num_words = count_words(self.resolved.mixture, self.dataset)
        order = str(self.resolved.recipe.data.replicate)

        def make(args: TrainingArguments) -> OriginalOrder:
            return OriginalOrder(
                num_words,
                order=order,
                batch_size=args.train_batch_size,
                world_size=max(1, args.world_size),
                accumulation_steps=args.gradient_accumulation_steps,
                rank=args.process_index if args.world_size > 1 else 0,
                seed=args.seed,
            )

        return make


def read_stored_data(resolved: ResolvedRecipe, processor: OpenLlavaProcessor) -> StoredData:
    """`prepare_data`, with what it comes to in the log."""
    data = prepare_data(resolved, processor)
    _report(data)
    _report_steps(len(data.dataset), resolved.recipe)
    return data


def prepare_data(resolved: ResolvedRecipe, processor: OpenLlavaProcessor) -> StoredData:
    """
    Reads and measures the data of a recipe. Every process does it by itself; the result is the same on each.

    Args:
        resolved (`ResolvedRecipe`): Its mixture, and what is asked of the data.
        processor (`OpenLlavaProcessor`): Gets the recipe's chat template, and counts tokens.

    Raises:
        `RecipeError`: The data fields make no sense.
        `RecordError`: With `strict`, the first record that cannot be used.
    """
    data, config = resolved.recipe.data, resolved.mixture
    processor.chat_template = resolved.chat_template_for(processor)
    try:
        dataset, mixture = build_mixture(config, strict=data.strict, num_proc=data.data_num_proc)
    except RecordError:
        raise
    except ValueError as error:
        raise RecipeError(f"`train_data` cannot be used: {error}") from error
    measured = measure_examples(
        dataset,
        processor,
        resolved.encoding_policy,
        strict=data.strict,
        num_proc=data.data_num_proc,
        token_budgets=config.token_budgets,
        cache_key=mixture.content_key(),
    )
    if not measured.lengths:
        raise RecipeError(
            f"none of the {len(dataset):,} examples can be trained on ({dict(measured.report.dropped)}). The first: "
            f"{next(iter(measured.report.examples.values()))[0]}"
        )
    tokens = count_tokens_of_sources(measured.dataset["source"], [length.num_tokens for length in measured.lengths])
    lock = make_lock(config, mixture, tokens_of_source=tokens, lengths=measured.report)
    return StoredData(resolved, measured.dataset, measured.lengths, mixture, measured.report, lock)


def _report(data: StoredData) -> None:
    """Logs the mixture's table and what its examples come to in tokens."""
    report = data.report
    logger.info("\n%s", data.mixture.to_markdown())
    logger.info(
        "%s examples (%s with images), %s tokens, the longest %s; %s truncated",
        f"{report.num_examples:,}",
        f"{report.num_with_image:,}",
        f"{report.num_tokens:,}",
        f"{report.longest:,}",
        f"{report.num_truncated:,}",
    )
    for reason, count in sorted(report.dropped.items()):
        logger.warning("%s left out (%s), for example: %s", f"{count:,}", reason, report.examples[reason][0])


def _report_steps(num_examples: int, recipe: Recipe) -> None:
    args = recipe.sft
    batch = args.train_batch_size * args.gradient_accumulation_steps * max(1, args.world_size)
    steps, rest = divmod(num_examples, batch)
    logger.info("%s steps of %s examples an epoch", f"{steps:,}", f"{batch:,}")
    if rest:
        logger.info("and a last one of the %s that are left", f"{rest:,}")


__all__ = ["MIXTURE_REPORT_NAME", "StoredData", "prepare_data", "read_stored_data"]
