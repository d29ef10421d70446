"""
Write `docs/reference/traced_plans.md`: what `llava train --dry_run` says of LLaVA-1.5's stages on eight GPUs.

    python -m benchmarks.harness.traced_plans

It takes about a minute of one core and needs no GPU and no weights. Nothing on the page is measured.
"""

import sys
from dataclasses import dataclass

from benchmarks.harness.results import ROOT
from transformers_llava import register
from transformers_llava.packaged import packaged_file
from transformers_llava.training.estimate.dry_run import ASSUMED_MFU, Plan, format_plan, plan_file
from transformers_llava.training.estimate.gpus import Gpu
from transformers_llava.training.estimate.trace.roofline import bound_time
from transformers_llava.training.estimate.trace.trace_page import COLUMNS


PAGE = ROOT / "docs" / "reference" / "traced_plans.md"
NUM_GPUS = 8
PUBLISHED_ON = "A100 80 GB"
# Hours on eight A100 of both stages, as the README of haotian-liu/LLaVA and the paper state them.
PUBLISHED = {"7b": 13.5, "13b": 25.5}
STAGES = {"1_align": "ddp", "2_instruct": "fsdp2"}  # with what `llava train` starts them on several GPUs
HEADER = f"""\
# Traced plans

<!-- Written by `python -m benchmarks.harness.traced_plans`. Do not edit. -->

What `llava train --dry_run` says of LLaVA-1.5 on eight GPUs: one step of the trainer, run on tensors without numbers.
**Nothing here is measured.** Hours "at least" are a bound from below: each operator takes the longer of what its
operations and its bytes need, one follows another without a gap, and the host never makes a GPU wait. Hours "at
{ASSUMED_MFU:.0%} of the peak" rest on an assumption, that a run reaches an MFU of {ASSUMED_MFU:.0%}.
[How to read a page](../guides/train.md#before-anything-runs).

Two things make the bound a little too high: every example of a traced pack has an image, where 6 % of stage 2's have
none (4 % more tokens), and attention counts the whole square, of which a causal kernel computes half.

## Both stages against what is published

Published is the wall time of another implementation on eight A100, data and saving included: a bound that is below it
says what is possible, not that this is faster.
"""


@dataclass(frozen=True)
class TracedPlan:
    """A plan and the recipe's name."""

    name: str
    plan: Plan

    def least_hours(self, gpu: Gpu) -> float:
        """Wall time of all steps on `NUM_GPUS`, bounded from below."""
        assert self.plan.traced is not None
        step = bound_time(self.plan.traced.operators, gpu, num_gpus=NUM_GPUS)
        return step.total * self.plan.num_steps / 3600


def trace_stages(size: str) -> list[TracedPlan]:
    """Both stages of `7b` or `13b`."""
    names = {f"llava-v1.5/{size}/{stage}": backend for stage, backend in STAGES.items()}
    return [
        TracedPlan(name, plan_file(packaged_file("recipe", name), [], backend=backend, num_gpus=NUM_GPUS))
        for name, backend in names.items()
    ]


def render_page(sizes: dict[str, list[TracedPlan]]) -> str:
    """The page of traced plans, by size."""
    rows = [
        "| | published | at least | GPU-hours, at least | " + f"at {ASSUMED_MFU:.0%} of the peak |",
        "|---|---|---|---|---|",
    ]
    for size, plans in sizes.items():
        for gpu in COLUMNS:
            least = sum(traced.least_hours(gpu) for traced in plans)
            assumed = sum(traced.plan.hours(gpu) for traced in plans)
            published = f"{PUBLISHED[size]} h" if str(gpu) == PUBLISHED_ON else "–"
            rows.append(
                f"| {size.upper()}, {NUM_GPUS} x {gpu} | {published} | {least:.1f} h | {least * NUM_GPUS:.0f} | "
                f"{assumed:.1f} h |"
            )
    parts = [HEADER, "\n".join(rows) + "\n"]
    for traced in (traced for plans in sizes.values() for traced in plans):
        command = f"llava train --config {traced.name} --dry_run --num_processes {NUM_GPUS}"
        page = "\n".join(line.rstrip() for line in format_plan(traced.plan, []).splitlines())
        parts.append(f"## {traced.name}\n\n`{command}`\n\n```text\n{page}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    register()
    PAGE.write_text(render_page({size: trace_stages(size) for size in PUBLISHED}), encoding="utf-8")
    sys.exit(0)
