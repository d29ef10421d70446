"""A recipe's data fields to what a run reads: examples, the length of each, and reports of what was left out."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from datasets import Dataset

from transformers_llava.chat_templates import chat_template_info, load_chat_template
from transformers_llava.data.encoding import SeveralImages
from transformers_llava.data.lengths import ExampleLength
from transformers_llava.data.lock import count_tokens_of_sources, make_lock
from transformers_llava.data.measuring import LengthReport, measure_examples
from transformers_llava.data.mixture import MixtureConfig, MixtureReport, build_mixture
from transformers_llava.data.mixture_file import read_mixture_file
from transformers_llava.data.schema import RecordError
from transformers_llava.data.sources import SourceConfig
from transformers_llava.modeling.processing_open_llava import OpenLlavaProcessor
from transformers_llava.training.assembly import load_processor
from transformers_llava.training.configs import DataConfig, RecipeError
from transformers_llava.training.recipe import Recipe


logger = logging.getLogger(__name__)

_TOKEN = re.compile(r"</?\w+>|<\|\w+\|>")  # written as special tokens are: `</s>`, `<|im_end|>`


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


def prepare_data(recipe: Recipe, processor: OpenLlavaProcessor | None = None) -> PreparedData:
    """
    Reads and measures the data of a recipe. Every process does it by itself; the result is the same on each.

    Args:
        recipe (`Recipe`): Its data, and the model whose processor counts the tokens.
        processor (`OpenLlavaProcessor`, *optional*): Gets the recipe's chat template; loaded if not given.

    Raises:
        `RecipeError`: The data fields make no sense.
        `RecordError`: With `strict`, the first record that can not be used.
    """
    data = recipe.data
    if processor is None:
        _, processor = load_processor(recipe.model)
    processor.chat_template = chat_template_of_recipe(data, processor)
    try:
        config = mixture_config_of_recipe(data, recipe.sft.seed)
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


def mixture_config_of_recipe(data: DataConfig, seed: int) -> MixtureConfig:
    """The sources of `train_data`, or of the mixture file that it names."""
    if isinstance(data.train_data, str):
        return read_mixture_file(data.train_data, seed=seed)
    return MixtureConfig([SourceConfig.from_dict(source) for source in data.train_data or []], seed=seed)


def chat_template_of_recipe(data: DataConfig, processor: Any) -> str:
    """The template that `chat_template` names, or the checkpoint's own."""
    name = data.chat_template
    if name is None:
        if not processor.chat_template:
            raise RecipeError(
                "neither the recipe nor the checkpoint has a chat template, so conversations could not be written as "
                "text. Set `chat_template`, for example `plain` (stage 1) or `vicuna_v1`."
            )
        return processor.chat_template
    if name.endswith(".jinja"):
        try:
            return Path(name).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise RecipeError(
                f"`chat_template`: {name!r} cannot be read ({error}). Give a file in UTF-8, or the name of a packaged "
                "template (`llava inspect template` lists them)."
            ) from error
    try:
        template = load_chat_template(name)
    except ValueError as error:
        raise RecipeError(f"`chat_template`: {error}") from error
    _check_stop(name, processor.tokenizer)
    return template


def _check_stop(name: str, tokenizer: Any) -> None:
    """The token that ends an answer must be one: in pieces the model would learn to spell it, and never to stop."""
    stop = chat_template_info(name).stop
    if not _TOKEN.fullmatch(stop):  # `###`, a line's end: text for every tokenizer, and in the original too
        return
    ids = tokenizer.encode(stop, add_special_tokens=False)
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        raise RecipeError(
            f"the template {name!r} ends answers with {stop!r}, which this tokenizer does not know as one token: it "
            f"reads {tokenizer.convert_ids_to_tokens(ids)}. The model would learn to spell it and never to stop (its "
            f"own end token is {tokenizer.eos_token!r}). Use a template of the language model's family "
            "(`chat_template`; leave it out for the tokenizer's own), or add the token to the tokenizer."
        )
    if ids[0] != tokenizer.eos_token_id:
        logger.warning(
            "answers end with %s, and the tokenizer's end token is %s: generate with `eos_token_id=%s`",
            *(stop, tokenizer.eos_token, ids[0]),
        )


__all__ = ["PreparedData", "prepare_data", "report_data"]
