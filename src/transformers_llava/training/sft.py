"""Run one stage of training: read the recipe, load, freeze, mix, measure, train, save.

`llava train` starts this file, in several processes through `accelerate launch`; `python -m
transformers_llava.training.sft --config FILE` does the same by hand.
"""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import set_seed

from transformers_llava.artifacts.local_paths import write_local_paths
from transformers_llava.artifacts.run_record.measurements import DataCounts, Hardware, TrainedComponent
from transformers_llava.artifacts.run_record.recorded import RunRecordError
from transformers_llava.artifacts.run_record.run_stages import RunRecord, Stage
from transformers_llava.data.batches.collators import PackedCollator, PaddedCollator, RejectRecord
from transformers_llava.data.batches.original_order import ROLE_MARKERS
from transformers_llava.data.schema import RecordError
from transformers_llava.modeling.modeling_open_llava import OpenLlavaForConditionalGeneration
from transformers_llava.modeling.processing_open_llava import OpenLlavaProcessor
from transformers_llava.training.agreement import Agreement, state_of_checkpoint
from transformers_llava.training.checkpoints.atomic import CheckpointError
from transformers_llava.training.checkpoints.resume import checkpoint_to_resume
from transformers_llava.training.distributed import full_state_dicts, shards, whole_weights
from transformers_llava.training.environment import hardware, package_versions
from transformers_llava.training.model.assembly import load_model
from transformers_llava.training.model.components import (
    apply_component_config,
    component_table,
    format_table,
    lora_config,
    table_as_dicts,
)
from transformers_llava.training.model.final_weights import finished_state
from transformers_llava.training.model.pack_check import check_packs
from transformers_llava.training.model.quantization import quantize_language_model
from transformers_llava.training.model.stored_dtypes import main_dtypes, save_dtypes
from transformers_llava.training.recipe.recipe import Recipe
from transformers_llava.training.recipe.recipe_error import RecipeError
from transformers_llava.training.recipe.recipe_file import apply_flags, read_recipe
from transformers_llava.training.recipe.requirements import check_requirements
from transformers_llava.training.recipe.resolve import ResolvedRecipe, resolve_recipe
from transformers_llava.training.run_data.run_data import RunData, read_data
from transformers_llava.training.run_inputs import complete_record, local_paths_of
from transformers_llava.training.trainer import LlavaTrainer


logger = logging.getLogger("transformers_llava.training.sft")  # launched, __name__ is "__main__"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs `--config FILE [--field value ...]`. A user's mistake ends in one message, not in a traceback."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("transformers_llava").setLevel(logging.INFO if _is_first_process() else logging.WARNING)
    try:
        train(parse_arguments(sys.argv[1:] if argv is None else argv))
    except (RecipeError, RecordError, CheckpointError, RunRecordError) as error:
        if os.environ.get("LOCAL_RANK", "0") != "0":  # said once on each machine
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


def train(recipe: Recipe) -> Stage:
    """
    Runs one stage and writes the checkpoint with its `run.json` into `output_dir`.

    A run that SIGTERM or SIGUSR1 ends leaves a checkpoint to resume from, and no finished model.

    Returns:
        `Stage`: The record of the stage.

    Raises:
        `CheckpointError`: a checkpoint could not be written.
        `FloatingPointError`: a loss, or a weight that was trained, is not finite; nothing is saved of it.
        `RecipeError`: when the recipe cannot be run as it stands.
        `RecordError`: with `strict`, at the first broken record.
    """
    args = recipe.sft
    agreement = Agreement()
    agreement.check_shared_folder(Path(args.output_dir))
    checkpoint = agreement.on_every_process(lambda: checkpoint_to_resume(recipe))
    agreement.check_same(
        state_of_checkpoint(checkpoint),
        "the checkpoint they resume from",
        "Give all machines the same checkpoints, in a folder that they share.",
    )
    resolved = agreement.on_every_process(lambda: resolve_recipe(recipe))
    set_seed(args.seed)
    half = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
    model, processor = agreement.on_every_process(lambda: _load_model(recipe, half))
    data = agreement.on_every_process(lambda: read_data(resolved, processor))
    data.check(agreement, checkpoint)

    stage = Stage(
        stage=recipe.stage,
        recipe=recipe.given,
        configuration=recipe.to_dict(),
        data=DataCounts.from_dict(data.to_dict()),
        seed=args.seed,
        versions=package_versions(),
        hardware=Hardware.from_dict(hardware(args.world_size, args.distributed_state.distributed_type.value)),
    )
    record = RunRecord((stage,))
    if args.should_save:
        record = complete_record(stage, resolved, data.lock)
    shared: dict[str, Any] = {
        "model": model,
        "args": args,
        "processing_class": processor,
        "peft_config": lora_config(model, recipe.components),
        "components": recipe.components,
        "run_record": record,
    }
    trainer = data.make_trainer(_collator(resolved, processor, data.on_error), **shared)
    if recipe.data.packed and model.device.type != "cpu":  # unsharded: the trainer has moved it, to other kernels
        check_packs(model, half)
    table = component_table(trainer.model, recipe.components, args.learning_rate, args.weight_decay)
    components = tuple(TrainedComponent.from_dict(row) for row in table_as_dicts(table))
    trainer.run_record = record.with_own(components=components)
    logger.info("\n%s\n", format_table(table))

    trainer.train(resume_from_checkpoint=checkpoint)
    assert trainer.run_record is not None
    if trainer.interruption.stopped:
        return trainer.run_record.own
    trainer.check_weights()
    data.report_left_out()
    trainer.run_record = trainer.run_record.with_own(data=DataCounts.from_dict(data.to_dict()))
    _save(trainer, data, resolved)
    return trainer.run_record.own


def _load_model(
    recipe: Recipe, half: torch.dtype | None
) -> tuple[OpenLlavaForConditionalGeneration, OpenLlavaProcessor]:
    """The model as it will train, but for what peft and the backend wrap around it."""
    check_requirements(recipe)
    try:
        with whole_weights(recipe.sft.deepspeed_plugin):
            model, processor = load_model(recipe.model, seed=recipe.sft.seed)
    except RecipeError:
        raise
    except (OSError, ValueError) as error:  # not there, not to be reached, or not what it should be
        config = recipe.model
        fields = (config.model_name_or_path, config.language_model_name_or_path, config.vision_tower_name_or_path)
        names = " with ".join(repr(name) for name in fields if name is not None)
        raise RecipeError(f"the model that the recipe names ({names}) cannot be loaded: {error}") from error
    apply_component_config(model, recipe.components, frozen_dtype=half)
    if recipe.data.packed:
        check_packs(model, half)
    quantize_language_model(model, recipe.components["language_model"], half or torch.float32)
    return model, processor


def _collator(
    resolved: ResolvedRecipe, processor: OpenLlavaProcessor, on_error: RejectRecord | None
) -> PackedCollator | PaddedCollator:
    recipe, policy = resolved.recipe, resolved.encoding_policy
    if recipe.data.packed:
        return PackedCollator(processor, policy, on_error=on_error)
    # A step of text alone leaves tower and projector without a gradient, which no distributed backend survives. With a
    # sharded one frozen parts must be gathered by all processes together too, or by none.
    vision = ("vision_tower", "multi_modal_projector")
    needs_image = any(recipe.components[name].mode != "frozen" for name in vision) or shards(recipe.sft)
    mask = ROLE_MARKERS.get(recipe.data.chat_template or "") if recipe.data.replicate else None
    return PaddedCollator(
        processor,
        policy,
        always_image=needs_image,
        on_error=on_error,
        mask_answers_with=mask,
    )


def _save(trainer: LlavaTrainer, data: RunData, resolved: ResolvedRecipe) -> None:
    """Weights, configuration, processor, run record, mixture and its lock; of a LoRA run also the adapter."""
    output_dir = Path(trainer.args.output_dir)
    with full_state_dicts(trainer.accelerator):
        if isinstance(trainer.model, PeftModel):
            _save_adapter(trainer, output_dir / "adapter")
        state = finished_state(trainer, resolved.recipe)
    if state is not None:
        if isinstance(trainer.model, PeftModel):
            trainer.model = trainer.model.get_base_model()
        dtypes = main_dtypes(state)  # before: saving empties it
        trainer._save(str(output_dir), state_dict=state)
        save_dtypes(trainer.model.config, dtypes, output_dir)
    if trainer.args.should_save:
        data.write(output_dir)
        write_local_paths(output_dir, local_paths_of(resolved))
    logger.info("saved %s", output_dir)


def _save_adapter(trainer: LlavaTrainer, folder: Path) -> None:
    """The adapter as peft writes it."""
    for config in trainer.model.peft_config.values():
        config.base_model_name_or_path = None  # a path of this machine, which means nothing elsewhere
    trainer.save_model(str(folder))
    if trainer.args.should_save:
        (folder / "README.md").unlink(missing_ok=True)  # peft's draft, with the same path


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


if __name__ == "__main__":
    main()
