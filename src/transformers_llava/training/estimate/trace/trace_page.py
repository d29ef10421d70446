"""Print a traced step: what it holds, computes and sends, and how fast a GPU could be at most."""

from dataclasses import fields

from transformers_llava.training.estimate.gpus import find_gpu
from transformers_llava.training.estimate.trace.live_bytes import BytesByPurpose
from transformers_llava.training.estimate.trace.operators import CLASSES
from transformers_llava.training.estimate.trace.roofline import ATTAINABLE, ATTAINABLE_BYTES, bound_time
from transformers_llava.training.estimate.trace.traced_step import TracedStep


# The columns of the page.
COLUMNS = tuple(map(find_gpu, ("A100 80 GB", "H100 80 GB", "H200 141 GB")))


def format_trace(traced: TracedStep, *, num_steps: int, num_gpus: int, useful_flops: float) -> list[str]:
    """
    Lines of a page.

    Args:
        traced (`TracedStep`): Of one of the GPUs.
        num_steps (`int`): Of the whole stage.
        num_gpus (`int`): In one machine.
        useful_flops (`float`): Operations of a step on one GPU that the gradient needs.
    """
    bounds = {gpu: bound_time(traced.operators, gpu, num_gpus=num_gpus, useful_flops=useful_flops) for gpu in COLUMNS}
    rows: list[tuple[str, list[str]]] = [
        (kind, [f"{bounds[gpu].seconds[kind] * 1e3:,.0f} ms ({bounds[gpu].share(kind):.0%})" for gpu in COLUMNS])
        for kind in CLASSES
        if any(bounds[gpu].seconds[kind] for gpu in COLUMNS)
    ]
    rows += [
        ("a step, at least", [f"{bounds[gpu].total * 1e3:,.0f} ms" for gpu in COLUMNS]),
        ("MFU, at most", [f"{bounds[gpu].mfu:.0%}" for gpu in COLUMNS]),
        ("all steps, at least", [f"{bounds[gpu].total * num_steps / 3600:,.1f} h" for gpu in COLUMNS]),
    ]
    micro_steps = f"{traced.num_micro_steps} x {traced.num_tokens:,} tokens"
    return [
        f"one step of one GPU, traced on fake tensors: {micro_steps}, {traced.flops / 1e12:,.1f} TFLOP",
        "",
        "memory at its fullest moment, in GB (10^9 bytes), without what CUDA and its allocator keep",
        *(f"  {field.name:<20}{getattr(traced.peak, field.name) / 1e9:8.2f}" for field in fields(BytesByPurpose)),
        f"  {'total':<20}{traced.peak.total / 1e9:8.2f}",
        *_communication(traced),
        "",
        "time of that step, bounded from below by operator: the longer of its operations and its bytes",
        f"  {'':<20}" + "".join(f"{gpu!s:>18}" for gpu in COLUMNS),
        *(f"  {name:<20}" + "".join(f"{cell:>18}" for cell in cells) for name, cells in rows),
        f"  Rates: {ATTAINABLE:.0%} of the makers' for products and {ATTAINABLE_BYTES:.0%} for memory, as measured on "
        "one H100 and assumed of the others.",
        "  Nothing here is measured: gaps between operators, the host and the allocator come on top.",
    ]


def _communication(traced: TracedStep) -> list[str]:
    sent = traced.communicated
    if not sent:
        return []
    return [
        "",
        "sent and received by one GPU in a step, in GB",
        *(f"  {name.partition('.')[2].strip('_'):<20}{size / 1e9:8.2f}" for name, size in sent.items() if size > 1e6),
    ]


__all__ = ["COLUMNS", "format_trace"]
