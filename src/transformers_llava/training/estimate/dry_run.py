"""Plan a recipe without running it: what it will train, hold in memory, compute, and how long it will take."""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from transformers_llava.modeling.modeling_open_llava import OpenLlavaForConditionalGeneration
from transformers_llava.training.estimate.flops import Flops, flops_per_example
from transformers_llava.training.estimate.gpus import GPUS, Gpu, find_gpu
from transformers_llava.training.estimate.measured import MeasuredShare, find_share, read_measured
from transformers_llava.training.estimate.memory import RUNTIME, Memory, memory_per_gpu
from transformers_llava.training.estimate.recipe_shapes import DataShape, plan_data, plan_model
from transformers_llava.training.estimate.trace.trace_page import format_trace
from transformers_llava.training.estimate.trace.traced_step import TRACED_BACKENDS, TracedStep
from transformers_llava.training.model.components import apply_component_config, component_table, format_table
from transformers_llava.training.recipe.recipe import Recipe


ASSUMED_MFU = 0.45  # of the peak, where `measured.json` does not say what a card reached
_BALANCE = 1.02  # heaviest pack over mean pack, as benchmarks/data_plane.py measures it (1.002) with some room
_NF4_BITS = 4.127  # a weight with its share of the quantised scales
_USABLE = 0.94  # of a GPU's memory, before fragments of it make allocation fail


@dataclass(frozen=True)
class Plan:
    """What a recipe comes to on `num_gpus` GPUs."""

    model: OpenLlavaForConditionalGeneration
    recipe: Recipe
    data: DataShape
    backend: str
    num_gpus: int
    num_steps: int
    global_batch: int
    pack_tokens: float
    num_checkpointed: int
    flops: Flops
    memory: Memory
    traced: TracedStep | None = None  # of one GPU; None where tracing cannot go

    @property
    def peak_bytes(self) -> float:
        """Bytes of one GPU at the fullest moment of a step: traced where that is possible, else by formula."""
        return self.memory.total if self.traced is None else self.traced.peak.total + RUNTIME

    @property
    def stage(self) -> int:
        """1 where the language model is frozen: its steps do two thirds of the work for each token."""
        return 1 if self.recipe.components["language_model"].mode == "frozen" else 2

    def hours(self, gpu: Gpu, measured: MeasuredShare | None = None) -> float:
        """
        Wall time of all steps: useful work at the share of the peak that was measured; or all work, also what
        checkpointing repeats, at [`ASSUMED_MFU`].
        """
        share = ASSUMED_MFU if measured is None else measured.share_of_peak
        per_example = self.flops.computed if measured is None else self.flops.useful
        total = per_example * self.num_steps * self.global_batch
        return total / (self.num_gpus * gpu.peak * share) / 3600


def make_plan(recipe: Recipe, *, backend: str, num_gpus: int, trace: bool = False) -> Plan:
    """
    Nothing is loaded, fetched or started: shapes alone.

    Args:
        recipe (`Recipe`): What would be trained.
        backend (`str`): `cpu`, `single_gpu`, `ddp`, `fsdp2`, `zero2` or `zero3`.
        num_gpus (`int`): In one machine.
        trace (`bool`, *optional*, defaults to `False`): Also run a step on fake tensors, which takes some seconds;
            except with ZeRO.
    """
    model = plan_model(recipe)
    apply_component_config(model, recipe.components)
    data = plan_data(recipe, model.config)
    modes = {name: component.mode for name, component in recipe.components.items()}
    args = recipe.sft
    per_step = args.per_device_train_batch_size * args.gradient_accumulation_steps
    global_batch = per_step * num_gpus
    num_layers = model.config.text_config.num_hidden_layers
    num_checkpointed = num_layers if args.gradient_checkpointing else 0
    if args.partial_checkpointing is not None:
        num_checkpointed = min(num_checkpointed, args.partial_checkpointing)
    pack_tokens = args.per_device_train_batch_size * data.tokens * _BALANCE
    if args.max_steps > 0:
        num_steps = args.max_steps
    else:
        num_steps = math.ceil(args.num_train_epochs * math.ceil(data.num_examples / global_batch))
    traced = None
    if trace and backend in TRACED_BACKENDS:
        from transformers_llava.training.estimate.trace.step import trace_step

        traced = trace_step(recipe, data, backend=backend, num_gpus=num_gpus)
    return Plan(
        traced=traced,
        model=model,
        recipe=recipe,
        data=data,
        backend=backend,
        num_gpus=num_gpus,
        num_steps=num_steps,
        global_batch=global_batch,
        pack_tokens=pack_tokens,
        num_checkpointed=num_checkpointed,
        flops=flops_per_example(model, modes, data, checkpointed=num_checkpointed / num_layers),
        memory=memory_per_gpu(
            model,
            modes,
            backend=backend,
            num_gpus=num_gpus,
            pack_tokens=pack_tokens,
            num_checkpointed=num_checkpointed,
            lora_rank=recipe.components["language_model"].lora_rank,
            frozen_bits=_NF4_BITS if recipe.components["language_model"].quantization else None,
        ),
    )


def format_plan(plan: Plan, shares: list[MeasuredShare] | None = None) -> str:
    """The page, as text; `shares` are what `make gpu` measured, by default what lies beside this file."""
    args, data = plan.recipe.sft, plan.data
    shares = read_measured() if shares is None else shares
    measured = {gpu: find_share(shares, gpu, plan.stage) for gpu in GPUS if gpu.is_planned}
    table = component_table(plan.model, plan.recipe.components, args.learning_rate, args.weight_decay)
    total = plan.flops.computed * plan.num_steps * plan.global_batch
    lines = [
        format_table(table),
        "",
        f"steps         {plan.num_steps:,} of {plan.global_batch} examples on {plan.num_gpus} GPU(s), {plan.backend}",
        f"data          {data.num_examples:,} examples of {data.tokens:,.0f} tokens ({data.image_tokens} of an "
        f"image), {data.num_examples * data.tokens / 1e6:,.0f} M tokens an epoch",
        f"              {data.origin}",
        f"a pack        {plan.pack_tokens:,.0f} tokens on each GPU, {args.gradient_accumulation_steps} a step",
        "",
        f"per example   {plan.flops.computed / 1e12:.2f} TFLOP: language model "
        f"{plan.flops.language_model / 1e12:.2f}, tower {plan.flops.tower / 1e12:.2f}, head "
        f"{plan.flops.head / 1e12:.2f}, repeated by checkpointing {plan.flops.repeated / 1e12:.2f}",
        f"in all        {total / 1e18:.2f} EFLOP",
        "",
        *_memory_or_trace(plan),
        "",
        _hours_title(measured),
        *(
            f"  {plan.num_gpus} x {gpu!s:<16}{plan.hours(gpu, share):8.1f}{_source(share)}{_fit(plan, gpu)}"
            for gpu, share in measured.items()
        ),
    ]
    notes = warnings(plan)
    return "\n".join([*lines, *(["", *notes] if notes else [])]) + "\n"


def _memory_or_trace(plan: Plan) -> list[str]:
    if plan.traced is not None:
        useful = plan.flops.useful * plan.global_batch / plan.num_gpus
        return format_trace(plan.traced, num_steps=plan.num_steps, num_gpus=plan.num_gpus, useful_flops=useful)
    why = "" if plan.backend in TRACED_BACKENDS else f" ({plan.backend} cannot be traced)"
    return [
        f"memory of a GPU, by formula{why}, in GB (10^9 bytes)",
        *(
            f"  {field.name.replace('_', ' '):<16}{getattr(plan.memory, field.name) / 1e9:8.2f}"
            for field in fields(plan.memory)
        ),
        f"  {'total':<16}{plan.memory.total / 1e9:8.2f}",
    ]


def warnings(plan: Plan) -> list[str]:
    """What a user should change before renting the machines."""
    found = []
    total = plan.peak_bytes
    room = find_gpu("A100 80 GB").memory * _USABLE
    if total > room:
        state = total - plan.memory.activations
        per_layer = plan.memory.activations / plan.model.config.text_config.num_hidden_layers
        needed = math.ceil((total - room) / per_layer) if state < room and plan.num_checkpointed == 0 else None
        how = f"about {needed} layers" if needed is not None else "all layers"
        found.append(
            f"80 GB: {total / 1e9:.0f} GB do not fit. Double gradient_accumulation_steps and halve "
            f"per_device_train_batch_size, or use gradient_checkpointing ({how} would do: `partial_checkpointing`)."
        )
    if plan.num_checkpointed and total + plan.memory.activations * 4 < room:
        found.append(
            f"80 GB: {total / 1e9:.0f} GB leave room; without gradient_checkpointing a step would compute "
            f"{plan.flops.repeated / plan.flops.computed:.0%} less."
        )
    if plan.recipe.data.max_length is not None and plan.data.tokens > plan.recipe.data.max_length:
        found.append(
            f"the mean example has {plan.data.tokens:,.0f} tokens and max_length is {plan.recipe.data.max_length:,}: "
            "most would be cut."
        )
    return [f"note: {text}" for text in found]


def dry_run(recipe: Path, flags: list[str], *, backend: str, num_gpus: int) -> str:
    """
    The page of a recipe's file with flags laid over it.

    Raises:
        `RecipeError`: the recipe cannot be planned, or run.
    """
    return format_plan(plan_file(recipe, flags, backend=backend, num_gpus=num_gpus))


def plan_file(recipe: Path, flags: list[str], *, backend: str, num_gpus: int) -> Plan:
    """The traced plan of a recipe's file with flags laid over it; raises as [`dry_run`]."""
    from transformers_llava.training.recipe.recipe_file import apply_flags, read_recipe

    values: dict[str, Any] = apply_flags(read_recipe(recipe), flags)
    half = bool(values.get("bf16") or values.get("fp16"))  # of one width, and a CPU has only bf16
    values |= {"bf16": half, "fp16": False, "tf32": None, "use_cpu": True}  # planned here, run elsewhere
    values.setdefault("output_dir", "output")
    values.setdefault("train_data", "none")
    return make_plan(Recipe.from_dict(values), backend=backend, num_gpus=num_gpus, trace=True)


def _hours_title(measured: dict[Gpu, MeasuredShare | None]) -> str:
    if not any(measured.values()):
        return f"hours at {ASSUMED_MFU:.0%} of the peak (an assumption: nothing was measured on a GPU yet)"
    return f"hours, as measured where a card is named; else at {ASSUMED_MFU:.0%} of the peak, an assumption"


def _source(share: MeasuredShare | None) -> str:
    if share is None:
        return ""
    return f"   at {share.share_of_peak:.1%}, measured {share.date} on one {share.gpu}: {share.name!r} in {share.file}"


def _fit(plan: Plan, gpu: Gpu) -> str:
    share = plan.peak_bytes / gpu.memory
    return "" if share <= _USABLE else f"   does not fit ({plan.peak_bytes / 1e9:.0f} GB)"


__all__ = ["ASSUMED_MFU", "Plan", "dry_run", "format_plan", "make_plan", "plan_file", "warnings"]
