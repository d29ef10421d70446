"""The story of one stage of training: read the recipe, load, freeze, mix, measure, train, save.

`llava train` launches this file through `accelerate launch`; `python -m transformers_llava.training.sft --config FILE`
does the same by hand.
"""

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import Dataset
from peft import PeftModel
from transformers import set_seed
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from transformers_llava.chat_templates import load_chat_template
from transformers_llava.data.collators import PackedCollator, PaddedCollator
from transformers_llava.data.lengths import ExampleLength
from transformers_llava.data.mixture import MixtureConfig, MixtureReport, build_mixture
from transformers_llava.data.schema import RecordError
from transformers_llava.data.sources import SourceConfig
from transformers_llava.modeling.processing_open_llava import OpenLlavaProcessor
from transformers_llava.training.assembly import load_model, load_processor
from transformers_llava.training.components import (
    apply_component_config,
    component_table,
    format_table,
    lora_config,
    table_as_dicts,
)
from transformers_llava.training.configs import DataConfig, LlavaSFTConfig, RecipeError
from transformers_llava.training.measuring import EncodingReport, measure_mixture
from transformers_llava.training.recipe import Recipe, apply_flags, read_recipe
from transformers_llava.training.run_record import RunRecord, hardware, package_versions
from transformers_llava.training.trainer import LlavaTrainer


logger = logging.getLogger("transformers_llava.training.sft")  # launched, __name__ is "__main__"

MIXTURE_REPORT_NAME = "mixture.md"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs `--config FILE [--field value ...]`. A person's mistake ends in one message, not in a traceback."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("transformers_llava").setLevel(logging.INFO if _is_first_process() else logging.WARNING)
    try:
        train(parse_arguments(sys.argv[1:] if argv is None else argv))
    except (RecipeError, RecordError) as error:
        if not _is_first_process():
            sys.exit(2)
        sys.exit(f"\n{type(error).__name__}: {error}")


def parse_arguments(argv: Sequence[str]) -> Recipe:
    """`--config FILE` and flags that lie over its fields."""
    flags = list(argv)
    if "--config" not in flags or flags.index("--config") + 1 == len(flags):
        raise RecipeError("no recipe was given. Use `--config FILE`; `llava recipes ls` lists the packaged ones.")
    position = flags.index("--config")
    path = Path(flags[position + 1])
    del flags[position : position + 2]
    return Recipe.from_dict(apply_flags(read_recipe(path), flags))


def train(recipe: Recipe) -> RunRecord:
    """
    Runs one stage and writes the checkpoint with its `run.json` into `output_dir`.

    Raises:
        `RecipeError`: when the recipe can not be run as it stands.
        `RecordError`: with `strict`, at the first broken record.
    """
    args = recipe.sft
    set_seed(args.seed)
    half = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
    model, processor = load_model(recipe.model, seed=args.seed)
    apply_component_config(model, recipe.components, frozen_dtype=half)
    data = prepare_data(recipe, processor)
    _report_data(data)
    _check_steps(len(data.dataset), recipe)

    record = RunRecord(
        stage=recipe.stage,
        recipe=recipe.given,
        configuration=recipe.to_dict(),
        components=[],
        data={**data.mixture.to_dict(), "encoding": data.encoding.to_dict()},
        seed=args.seed,
        versions=package_versions(),
        hardware=hardware(args.world_size, args.distributed_state.distributed_type.value),
    )
    trainer = LlavaTrainer(
        model=model,
        args=args,
        train_dataset=data.dataset,
        data_collator=_collator(recipe, processor),
        processing_class=processor,
        peft_config=lora_config(model, recipe.components),
        components=recipe.components,
        lengths=data.lengths,
        run_record=record,
    )
    table = component_table(trainer.model, recipe.components, args.learning_rate, args.weight_decay)
    record.components = table_as_dicts(table)
    logger.info("\n%s\n", format_table(table))

    trainer.train(resume_from_checkpoint=_checkpoint(args))
    _save(trainer, data.mixture)
    return record


@dataclass
class PreparedData:
    """What a run reads, ready for the trainer."""

    dataset: Dataset
    lengths: list[ExampleLength]
    processor: OpenLlavaProcessor
    mixture: MixtureReport
    encoding: EncodingReport


def prepare_data(recipe: Recipe, processor: OpenLlavaProcessor | None = None) -> PreparedData:
    """
    Reads and measures the data of a recipe. Every process does it by itself; the result is the same on each.

    Args:
        recipe (`Recipe`): Its data, and the model whose processor counts the tokens.
        processor (`OpenLlavaProcessor`, *optional*): Gets the recipe's chat template; loaded if not given.
    """
    if processor is None:
        _, processor = load_processor(recipe.model)
    processor.chat_template = _chat_template(recipe.data, processor)
    dataset, mixture = _read_mixture(recipe.data, recipe.sft.seed)
    dataset, lengths, encoding = measure_mixture(
        dataset, processor, max_length=recipe.data.max_length, strict=recipe.data.strict
    )
    return PreparedData(dataset, lengths, processor, mixture, encoding)


def _read_mixture(data: DataConfig, seed: int) -> tuple[Dataset, MixtureReport]:
    values: Any = data.train_data
    if isinstance(values, str):
        mixture_file = Path(values)
        if not mixture_file.is_file():
            raise RecipeError(
                f"`train_data` names the mixture file {values!r}, which does not exist. Give the file of a mixture, "
                "or a list of sources."
            )
        values = yaml.safe_load(mixture_file.read_text(encoding="utf-8"))
        values = values.get("sources", values) if isinstance(values, dict) else values
    try:
        sources = [SourceConfig.from_dict(source) for source in values]
        return build_mixture(MixtureConfig(sources, seed=seed), strict=data.strict, num_proc=data.data_num_proc)
    except RecordError:
        raise
    except ValueError as error:
        raise RecipeError(f"`train_data` can not be used: {error}") from error


def _chat_template(data: DataConfig, processor: Any) -> str:
    name = data.chat_template
    if name is None:
        if not processor.chat_template:
            raise RecipeError(
                "neither the recipe nor the checkpoint has a chat template, so conversations could not be written as "
                "text. Set `chat_template`, for example `plain` (stage 1) or `vicuna_v1`."
            )
        return processor.chat_template
    if name.endswith(".jinja"):
        return Path(name).read_text(encoding="utf-8")
    try:
        return load_chat_template(name)
    except ValueError as error:
        raise RecipeError(f"`chat_template`: {error}") from error


def _collator(recipe: Recipe, processor: Any) -> PackedCollator | PaddedCollator:
    if recipe.data.packed:
        return PackedCollator(processor, recipe.data.max_length)
    # A step of text alone leaves tower and projector without a gradient, which no distributed backend survives.
    needs_image = any(recipe.components[name].mode != "frozen" for name in ("vision_tower", "multi_modal_projector"))
    return PaddedCollator(processor, recipe.data.max_length, always_image=needs_image)


def _report_data(data: PreparedData) -> None:
    encoding = data.encoding
    logger.info("\n%s", data.mixture.to_markdown())
    logger.info(
        "%s examples (%s with pictures), %s tokens, the longest %s; %s truncated",
        f"{encoding.num_examples:,}",
        f"{encoding.num_with_image:,}",
        f"{encoding.num_tokens:,}",
        f"{encoding.longest:,}",
        f"{encoding.num_truncated:,}",
    )
    for reason, count in sorted(encoding.dropped.items()):
        logger.warning("%s left out (%s), for example: %s", f"{count:,}", reason, encoding.examples[reason][0])


def _check_steps(num_examples: int, recipe: Recipe) -> None:
    args = recipe.sft
    batch = args.train_batch_size * args.gradient_accumulation_steps * max(1, args.world_size)
    if num_examples < batch:
        raise RecipeError(
            f"{num_examples} usable examples do not fill one optimizer step of {batch} (per_device_train_batch_size "
            f"{args.train_batch_size} x gradient_accumulation_steps {args.gradient_accumulation_steps} x "
            f"{args.world_size} processes), so nothing would be trained. Use a smaller batch or more data."
        )
    steps, rest = divmod(num_examples, batch)
    logger.info("%s steps of %s examples an epoch", f"{steps:,}", f"{batch:,}")
    if rest:
        logger.info("each epoch leaves out %s examples (others each time) that do not fill a step", f"{rest:,}")


def _checkpoint(args: LlavaSFTConfig) -> str | None:
    """
    What `--resume` goes on from: the latest complete checkpoint, or nothing if there is none yet.

    Contract: `Trainer` writes `trainer_state.json` last, so a folder without it is half a checkpoint and is passed
    over.
    """
    if args.resume_from_checkpoint not in (True, "true", "True"):
        return args.resume_from_checkpoint or None
    complete = [
        folder
        for folder in Path(args.output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        if (folder / TRAINER_STATE_NAME).is_file() and folder.name.rpartition("-")[2].isdigit()
    ]
    if not complete:
        logger.info("nothing to resume in %s: starting from the beginning", args.output_dir)
        return None
    return str(max(complete, key=lambda folder: int(folder.name.rpartition("-")[2])))


def _save(trainer: LlavaTrainer, mixture: MixtureReport) -> None:
    """Weights, configuration, processor, run record, mixture; of a LoRA run also the adapter by itself."""
    output_dir = Path(trainer.args.output_dir)
    if isinstance(trainer.model, PeftModel):
        trainer.save_model(str(output_dir / "adapter"))
        trainer.model = trainer.model.merge_and_unload()
    trainer.save_model()
    if trainer.args.should_save:
        (output_dir / MIXTURE_REPORT_NAME).write_text(mixture.to_markdown(), encoding="utf-8")
        logger.info("saved %s", output_dir)


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


if __name__ == "__main__":
    main()
