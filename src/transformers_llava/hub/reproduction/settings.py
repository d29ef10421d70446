"""Sort the settings of a recorded run: what is obeyed when it runs again, what is left out, what forbids to run it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from transformers_llava.artifacts.run_record.field_checks import shown
from transformers_llava.chat_templates import list_chat_templates


MAX_WORKERS = 64  # of a data loader: more a record of ours never needed, and a foreign one might exhaust the machine


@dataclass
class Settings:
    """
    The settings of one stage, sorted.

    Args:
        kept (`dict`): Obeyed: they decide which numbers come out, or what is written inside the output.
        left_out (`dict[str, str]`): Name -> why it is not obeyed; the numbers are the same without it.
        refused (`dict[str, str]`): Name -> why it cannot be obeyed; without it the numbers would be others.
    """

    kept: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def settings_of(configuration: Mapping[str, Any], written: set[str], *, has_template: bool) -> Settings:
    """
    Sorts every field that was in force.

    Args:
        configuration (`Mapping`): Of a checked run record.
        written (`set[str]`): The fields that a user wrote; of the others nobody needs to hear.
        has_template (`bool`): The record holds the text of a template of the trainer's own.
    """
    settings = Settings()
    for name, value in configuration.items():
        if value is None or name in _PLACED:
            continue
        if name in _OBEYED:
            if problem := _OBEYED[name](value):
                settings.refused[name] = f"{shown(value)}: {problem}"
            else:
                settings.kept[name] = value
        elif name == "chat_template":
            if not has_template and value not in list_chat_templates(with_aliases=True):
                settings.refused[name] = f"{shown(value)}: a file that is not in the record, and no packaged template"
            elif not has_template:
                settings.kept[name] = value
        elif reason := _reason(name, value, is_written=name in written):
            settings.left_out[name] = f"{shown(value)}: {reason}"
    return settings


# What a record says of these is not copied but derived: base models, the mixture's file, the output's place.
_PLACED = {
    *("model_name_or_path", "language_model_name_or_path", "vision_tower_name_or_path", "train_data", "output_dir"),
    *("model_revision", "language_model_revision", "vision_tower_revision"),
}
# Left out without a word unless somebody wrote it: of the machine, the place, the day, or without effect on weights.
_OF_THE_MACHINE = "it belongs to the machine or the day, not to the recipe"
_NEVER = {
    "push_to_hub": "nothing is uploaded",
    "hub_": "nothing is uploaded",
    "report_to": "nothing is reported anywhere",
    "trackio_": "nothing is reported anywhere",
    "project": "nothing is reported anywhere",
    "run_name": "nothing is reported anywhere",
    "deepspeed": "how weights are sharded follows from a packaged accelerate configuration alone",
    "fsdp": "how weights are sharded follows from a packaged accelerate configuration alone",
    "accelerator_config": "it follows from a packaged accelerate configuration alone",
    "parallelism_config": "it follows from a packaged accelerate configuration alone",
    "resume_from_checkpoint": "it starts from the beginning; --replay starts from the published state",
    "trust_remote_code": "no code of a repository is run",
    "use_kernels": "no kernel is fetched",
    "kernel_config": "no kernel is fetched",
    "logging_dir": "everything is written below the output",
    "debug": "nothing of it changes a weight",
}
_SILENT = {
    *("disable_tqdm", "log_level", "log_level_replica", "log_on_each_node", "save_on_each_node", "data_num_proc"),
    *("use_cpu", "ddp_backend"),
}
_NOTHING: tuple[Any, ...] = (False, "", "no", "none", "huggingface", [], ["none"], {}, 0)


def _reason(name: str, value: Any, *, is_written: bool) -> str | None:
    """Why a field is left out; `None` where it says nothing."""
    if any(value == nothing and type(value) is type(nothing) for nothing in _NOTHING):
        return None
    for prefix, reason in _NEVER.items():
        if name.startswith(prefix) and (is_written or name in _SAID_ALWAYS):
            return reason
    return _OF_THE_MACHINE if is_written and name not in _SILENT else None


_SAID_ALWAYS = {
    *("push_to_hub", "hub_model_id", "report_to", "deepspeed", "fsdp", "fsdp_config", "debug", "logging_dir"),
    *("resume_from_checkpoint", "trust_remote_code", "use_kernels", "kernel_config", "trackio_space_id"),
}


def _plain(value: Any) -> str | None:
    """A number, a switch, a short word, or a list of them: data, whatever it says."""
    items = value if isinstance(value, list) else [value]
    for item in items[:1000]:
        if isinstance(item, list) and len(item) <= 1000 and all(isinstance(one, int | float) for one in item):
            continue  # such as a canvas of tiles
        if not isinstance(item, int | float | str) or (isinstance(item, str) and not _is_word(item)):
            return "it is neither a number nor a short word"
    return None if len(items) <= 1000 else "it is longer than any setting of ours"


def _is_word(value: str) -> bool:
    return len(value) <= 500 and value.isprintable()


def _one_of(*allowed: Any) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        return None if value in allowed else f"known here are {', '.join(map(str, allowed))}"

    return check


def _at_most(largest: int) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= largest
        return None if fits else f"it must be a whole number up to {largest}"

    return check


def _with_keys(*keys: str) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if isinstance(value, str):  # `vision_tower: frozen`
            return _plain(value)
        if not isinstance(value, dict) or set(value) - set(keys):
            return f"it must be a mapping of {', '.join(keys)}"
        return next((problem for item in value.values() if item is not None and (problem := _plain(item))), None)

    return check


def _any_keys(value: Any) -> str | None:
    if (
        not isinstance(value, dict)
        or len(value) > 100
        or not all(re.fullmatch(r"\w{1,60}", str(key)) for key in value)
    ):
        return "it must be a mapping of names to numbers, switches or short words"
    return next((problem for item in value.values() if item is not None and (problem := _plain(item))), None)


def _attention(value: Any) -> str | None:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9_]{1,60}", value):
        return "a kernel of the Hub is code, which is not fetched and not run"
    # transformers falls back to a kernel of the Hub where the library of one of these is missing.
    library = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}.get(value)
    if value.startswith("flash_attention") and (library is None or find_spec(library) is None):
        return f"{library or value} is not installed, and the kernel of the Hub in its place is code, which is not run"
    return None


_COMPONENT = _with_keys(
    "mode", "learning_rate", "weight_decay", "lora_rank", "lora_alpha", "lora_dropout", "quantization"
)
_OBEYED: dict[str, Callable[[Any], str | None]] = {
    **dict.fromkeys(
        (
            *("stage", "seed", "data_seed", "full_determinism"),
            # steps, optimizer, schedule
            *("per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "max_steps"),
            *("learning_rate", "lr_scheduler_type", "warmup_steps", "optim", "optim_args", "optim_target_modules"),
            *("weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "label_smoothing_factor"),
            *("average_tokens_across_devices", "neftune_noise_alpha", "loss_type", "use_cache"),
            # precision and memory, which change sums in their last bits
            *("bf16", "fp16", "tf32", "activation_checkpointing", "gradient_checkpointing", "partial_checkpointing"),
            *("activation_offloading", "torch_compile", "use_liger_kernel", "torch_empty_cache_steps"),
            # data and model
            *("max_length", "several_images", "packed", "replicate", "streaming", "streaming_window", "strict"),
            *("projector_type", "vision_feature_layer", "vision_feature_select_strategy", "image_grid_pinpoints"),
            *("patch_merge_type", "image_aspect_ratio"),
            # how processes and loaders work together
            *("dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_in_order"),
            *("ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph"),
            "ddp_timeout",
            # what is logged, which is compared, and saved, inside the output
            *("logging_strategy", "logging_steps", "logging_first_step", "logging_nan_inf_filter"),
            *("save_strategy", "save_steps", "save_total_limit", "save_only_model", "include_num_input_tokens_seen"),
        ),
        _plain,
    ),
    **dict.fromkeys(("dataloader_num_workers", "dataloader_prefetch_factor"), _at_most(MAX_WORKERS)),
    "dataloader_multiprocessing_context": _one_of("fork", "spawn", "forkserver"),
    "attn_implementation": _attention,
    "torch_compile_backend": _one_of("inductor"),
    "torch_compile_mode": _one_of("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs", "lite"),
    **dict.fromkeys(
        ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs"),
        _with_keys("use_reentrant", "preserve_rng_state"),
    ),
    **dict.fromkeys(("lr_scheduler_kwargs", "liger_kernel_config"), _any_keys),
    **dict.fromkeys(("vision_tower", "multi_modal_projector", "language_model"), _COMPONENT),
}


__all__ = ["Settings", "settings_of"]
