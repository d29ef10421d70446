"""Choose the checkpoint of an output folder to resume from, or say what of the recipe has changed since."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from transformers_llava.artifacts.environment_variables import REPLAY_VARIABLE
from transformers_llava.artifacts.old_spellings import with_new_spellings
from transformers_llava.artifacts.run_record.portable_values import without_absolute_paths
from transformers_llava.artifacts.run_record.record_file import has_run_record, read_run_record
from transformers_llava.artifacts.run_record.run_stages import Stage
from transformers_llava.training.recipe.recipe import Recipe
from transformers_llava.training.recipe.recipe_error import RecipeError
from transformers_llava.training.recipe.resolve import base_models


logger = logging.getLogger(__name__)

# Of these a resumed run may have others: where things are, how much is said and kept, who computes what.
_MAY_CHANGE = {
    *("output_dir", "run_name", "report_to", "project", "trackio_space_id", "resume_from_checkpoint", "disable_tqdm"),
    *("save_strategy", "save_steps", "save_total_limit", "save_only_model", "overwrite_output_dir"),
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_prefetch_factor", "data_num_proc", "strict"),
    *("dataloader_persistent_workers", "per_device_train_batch_size", "gradient_accumulation_steps", "ddp_timeout"),
    *("ignore_data_skip", "deepspeed", "fsdp", "fsdp_config", "accelerator_config", "use_cpu", "ddp_backend"),
    *("ddp_find_unused_parameters", "include_num_input_tokens_seen", "local_rank", "world_size"),
    "train_data",  # by content: `check_same_data`
}
_BASE_MODELS = ("model_name_or_path", "language_model_name_or_path", "vision_tower_name_or_path")
_MAY_CHANGE_PREFIXES = ("logging_", "log_", "hub_", "push_to_hub", "eval_", "per_device_eval", "tpu_", "debug")


def checkpoint_to_resume(recipe: Recipe) -> str | None:
    """
    What `--resume` resumes from: the checkpoint that was named, else the latest complete one, else nothing.

    Raises:
        `RecipeError`: the checkpoint was made with another recipe; says which field.
    """
    args = recipe.sft
    wanted: Any = args.resume_from_checkpoint
    if wanted in (None, False, "false", "False", ""):
        return None
    if wanted not in (True, "true", "True"):
        folder = Path(wanted)
        if not (folder / TRAINER_STATE_NAME).is_file():
            raise RecipeError(
                f"{str(wanted)!r} is no complete checkpoint: it has no {TRAINER_STATE_NAME}. Name a `checkpoint-N` "
                "folder, or use `--resume` alone for the latest one."
            )
    else:
        complete = [
            folder
            for folder in Path(args.output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
            if (folder / TRAINER_STATE_NAME).is_file() and folder.name.rpartition("-")[2].isdigit()
        ]
        if not complete:
            logger.info("nothing to resume in %s: starting from the beginning", args.output_dir)
            return None
        folder = max(complete, key=lambda path: int(path.name.rpartition("-")[2]))
    check_same_recipe(recipe, folder)
    logger.info("resuming from %s", folder)
    return str(folder)


def check_same_recipe(recipe: Recipe, checkpoint: Path) -> None:
    """
    Refuses to resume with another recipe than the checkpoint's.

    Paths, logging and saving may change, and so may the number of processes, as long as the examples of an optimizer
    step stay as many: which examples those are does not depend on who computes them.

    Raises:
        `RecipeError`: with every field that differs.
    """
    if not has_run_record(checkpoint):  # not written by us
        return
    record = read_run_record(checkpoint).own
    before = record.configuration
    now = with_new_spellings(without_absolute_paths(_plain(recipe.to_dict())), "the recipe")
    changed = [
        f"{name}: {before[name]!r} -> {now[name]!r}"
        for name in sorted(before.keys() & now.keys())
        if before[name] != now[name] and name not in _MAY_CHANGE and not name.startswith(_MAY_CHANGE_PREFIXES)
    ]
    changed = (
        [line for line in changed if not line.startswith(_BASE_MODELS)] if _same_bases(recipe, record) else changed
    )
    batches = _batch(before, record.hardware.world_size), _batch(now, max(1, recipe.sft.world_size))
    if batches[0] != batches[1]:
        changed.append(f"examples per optimizer step: {batches[0]} -> {batches[1]}")
    if changed:
        raise RecipeError(
            f"the checkpoint {checkpoint.name!r} was made with another recipe, so resuming would be neither of the "
            f"two runs. What differs: {'; '.join(changed)}. Put these back; or start a new run from the weights, with "
            "`model_name_or_path` and another `output_dir`."
        )


def check_same_data(checkpoint: str | None, digest: str | None) -> None:
    """Refuses to resume with other records under the same name: the order of training would be another one."""
    if checkpoint is None or digest is None or not has_run_record(checkpoint):
        return
    before = read_run_record(checkpoint).own.data.order_digest
    if before and before != digest:
        raise RecipeError(
            f"the data are not what the checkpoint {Path(checkpoint).name!r} was trained on (digest of the examples "
            f"{before[:19]} -> {digest[:19]}): examples would be seen twice or never. Restore the data, or start a "
            "new run; `llava data verify` names the source that changed."
        )


def _same_bases(recipe: Recipe, record: Stage) -> bool:
    """Whether the base models are the same by content, whatever they are called here."""
    if os.environ.get(REPLAY_VARIABLE):
        logger.warning("replaying: what was frozen is taken from the weights that are named now.")
        return True
    if not record.base_models:
        return False
    if any(recipe.to_dict()[name] != record.configuration.get(name) for name in _BASE_MODELS):
        digests = [base.digest for base in base_models(recipe.model)]
        return digests == [base.digest for base in record.base_models]
    return True


def _batch(configuration: Mapping[str, Any], world_size: int) -> int:
    return int(
        configuration["per_device_train_batch_size"] * configuration["gradient_accumulation_steps"] * world_size
    )


def _plain(value: Any) -> Any:
    """As it comes back from JSON."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


__all__ = ["check_same_data", "check_same_recipe", "checkpoint_to_resume"]
