"""A recipe's data fields to what a run reads: examples, the length of each, and reports of what was left out."""

import logging
from dataclasses import dataclass
from typing import Any, cast

from datasets import Dataset

from transformers_llava.data.mixture.lock import count_tokens_of_sources, make_lock
from transformers_llava.data.mixture.mixture_building import build_mixture
from transformers_llava.data.reports import LengthReport, MixtureReport
from transformers_llava.data.schema import RecordError
from transformers_llava.data.tokens.counting import ExampleLength
from transformers_llava.data.tokens.encoding import SeveralImages
from transformers_llava.data.tokens.length_filter import measure_examples
from transformers_llava.modeling.processing_open_llava import OpenLlavaProcessor
from transformers_llava.training.recipe.recipe_error import RecipeError
from transformers_llava.training.recipe.resolve import ResolvedRecipe


logger = logging.getLogger(__name__)


@dataclass
class PreparedData:
    """
    What a run reads, ready for the trainer.

    Args:
        dataset (`Dataset`): Examples that can be trained on, in order.
        lengths (`list[ExampleLength]`): Tokens of each, and whether it has a picture.
        processor (`OpenLlavaProcessor`): With the chat template of the run.
        mixture (`MixtureReport`): What was read, kept and left out, by source and reason.
        report (`LengthReport`): What became of the kept ones once template and `max_length` were known.
        lock (`dict`): The facts of the mixture, written as `mixture.lock.json`.
    """

    dataset: Dataset
    lengths: list[ExampleLength]
    processor: OpenLlavaProcessor
    mixture: MixtureReport
    report: LengthReport
    lock: dict[str, Any]

    @property
    def num_rejected(self) -> int:
        """Records that were left out, for whatever reason."""
        return self.mixture.num_dropped + sum(self.report.dropped.values())

    def to_dict(self) -> dict[str, Any]:
        """What `run.json` says about the data."""
        return {**self.mixture.to_dict(), "lengths": self.report.to_dict()}


def prepare_data(resolved: ResolvedRecipe, processor: OpenLlavaProcessor) -> PreparedData:
    """
    Reads and measures the data of a recipe. Every process does it by itself; the result is the same on each.

    Args:
        resolved (`ResolvedRecipe`): Its mixture, and what is asked of the data.
        processor (`OpenLlavaProcessor`): Gets the recipe's chat template, and counts tokens.

    Raises:
        `RecipeError`: The data fields make no sense.
        `RecordError`: With `strict`, the first record that can not be used.
    """
    data, config = resolved.recipe.data, resolved.mixture
    processor.chat_template = resolved.chat_template_for(processor)
    try:
        dataset, mixture = build_mixture(config, strict=data.strict, num_proc=data.data_num_proc)
    except RecordError:
        raise
    except ValueError as error:
        raise RecipeError(f"`train_data` can not be used: {error}") from error
    measured = measure_examples(
        dataset,
        processor,
        max_length=data.max_length,
        several_images=cast(SeveralImages, data.several_images),
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
    return PreparedData(measured.dataset, measured.lengths, processor, mixture, measured.report, lock)


def report_data(data: PreparedData) -> None:
    """Logs the mixture's table and what its examples come to in tokens."""
    report = data.report
    logger.info("\n%s", data.mixture.to_markdown())
    logger.info(
        "%s examples (%s with pictures), %s tokens, the longest %s; %s truncated",
        f"{report.num_examples:,}",
        f"{report.num_with_image:,}",
        f"{report.num_tokens:,}",
        f"{report.longest:,}",
        f"{report.num_truncated:,}",
    )
    for reason, count in sorted(report.dropped.items()):
        logger.warning("%s left out (%s), for example: %s", f"{count:,}", reason, report.examples[reason][0])


__all__ = ["PreparedData", "prepare_data", "report_data"]
