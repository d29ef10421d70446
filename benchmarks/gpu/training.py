"""Time a step of both stages at the recipe's lengths: padded as the original, padded, packed; three checkpointings.

    python -m benchmarks.gpu.training [--dry]

Weights, gradients and AdamW's moments are in bf16, because the fp32 state of a 7B needs several GPUs; forward and
backward are those of FSDP2 in mixed precision. Every variant starts from the same weights and must give the same loss.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.gpu.ceilings import peak_of
from benchmarks.gpu.measuring import (
    device_seconds,
    figure,
    forget_peak,
    main,
    matmul_rate,
    median,
    peak_gigabytes,
    useful_flops,
)
from benchmarks.gpu.shapes import (
    Shapes,
    make_builtin,
    make_ours,
    num_tokens,
    packed_batch,
    padded_batch,
    stage_samples,
)
from benchmarks.harness.models import load_same_weights
from benchmarks.harness.results import Comparison
from transformers_llava.modeling.packs.varlen_attention import VARLEN
from transformers_llava.training.model.gradient_checkpointing import limit_checkpointing


@dataclass(frozen=True)
class Variant:
    """How a step of our model is done; `checkpointed` is the share of the layers that compute twice."""

    name: str
    is_packed: bool
    checkpointed: float
    is_plan: bool = False  # what the packaged recipes do, and `--dry_run` plans with


VARIANTS = {
    1: (
        Variant("padded, sdpa, full checkpointing", False, 1.0),
        Variant("packed, varlen, full checkpointing", True, 1.0),
        Variant("packed, varlen, half of the layers", True, 0.5),
        Variant("packed, varlen, no checkpointing", True, 0.0, is_plan=True),
    ),
    2: (
        Variant("padded, sdpa, full checkpointing", False, 1.0),
        Variant("padded, sdpa, half of the layers", False, 0.5),
        Variant("packed, varlen, full checkpointing", True, 1.0),
        Variant("packed, varlen, half of the layers", True, 0.5, is_plan=True),
    ),
}
BASELINE = "built-in model, padded, full checkpointing with input-require-grads: as the original trains"


def measure(shapes: Shapes, device: str) -> list[Comparison]:
    rate = matmul_rate(shapes, device)
    return [line for stage in (1, 2) for line in _stage(shapes, device, stage, rate)]


def _stage(shapes: Shapes, device: str, stage: int, rate: float) -> list[Comparison]:
    samples = stage_samples(shapes, stage)
    tokens, flops = num_tokens(shapes, samples), useful_flops(shapes, samples, stage)
    builtin = make_builtin(shapes, device)
    state = {name: tensor.detach().clone() for name, tensor in builtin.state_dict().items()}
    padded, packed = padded_batch(shapes, samples, device), packed_batch(shapes, samples, device)
    _enable_checkpointing(builtin)
    builtin.enable_input_require_grads()
    step = _make_step(builtin, stage)
    base_loss = float(step(padded))
    base_seconds = device_seconds(lambda: step(padded), device, shapes.repeats)
    del builtin, step
    forget_peak(device)
    ours = make_ours(shapes, device)
    load_same_weights(ours, _State(state))
    del state
    step, lines = _make_step(ours, stage), []
    for variant in VARIANTS[stage]:
        ours.set_attn_implementation(VARLEN if variant.is_packed else "sdpa")
        _enable_checkpointing(ours, variant.checkpointed)
        batch = packed if variant.is_packed else padded
        forget_peak(device)
        try:
            loss = float(step(batch))
        except torch.OutOfMemoryError as error:
            what = f"out of memory: {str(error).splitlines()[0]}"
            lines.append(figure(f"stage {stage}, {variant.name}", 0.0, "useful tokens/s", what))
            continue
        assert abs(loss - base_loss) < 0.02 * base_loss, (variant.name, loss, base_loss)
        seconds = device_seconds(lambda batch=batch: step(batch), device, shapes.repeats)
        taken, peak = median(seconds), peak_of(device)
        lines.append(
            Comparison(
                name=f"stage {stage}, {variant.name}",
                ours=round(tokens / taken, 1),
                other=round(tokens / median(base_seconds), 1),
                ratio=round(median(base_seconds) / taken, 3),
                unit="useful tokens/s",
                higher_is_better=True,
                ours_is=f"{len(samples)} examples, forward, backward and AdamW",
                other_is=BASELINE,
                checked=f"losses {loss:.4f} and {base_loss:.4f}",
                floor=round(tokens * rate / flops, 1),
                floor_is="useful operations at the card's own rate of a large product",
                repeats=len(seconds),
                notes={
                    "stage": stage,
                    "gpu": torch.cuda.get_device_name() if device != "cpu" else "dry run",
                    "is_plan": variant.is_plan and device != "cpu",
                    "seconds": [round(second, 4) for second in seconds],
                    "share_of_peak": round(flops / taken / peak, 4) if peak else None,
                    "share_of_matmul_rate": round(flops / taken / rate, 4),
                    "peak_memory_gb": round(peak_gigabytes(device), 2),
                    "where_the_time_goes": _profile(lambda batch=batch: step(batch), device),
                },
            )
        )
    return lines


class _State:
    """A state dict where a model is asked for one."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self._state = state

    def state_dict(self) -> dict[str, torch.Tensor]:
        return self._state


def _make_step(model: Any, stage: int) -> Callable[[dict[str, Any]], torch.Tensor]:
    """Batch to loss, at a learning rate of 0: every step does the same."""
    model.train().requires_grad_(stage == 2)
    model.model.vision_tower.requires_grad_(False)
    model.model.multi_modal_projector.requires_grad_(True)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.0, fused=True)

    def step(batch: dict[str, Any]) -> torch.Tensor:
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def _enable_checkpointing(model: Any, share: float = 1.0) -> None:
    model.activation_checkpointing_enable({"use_reentrant": False})
    layers = model.config.get_text_config().num_hidden_layers
    limit_checkpointing(model.model.language_model, round(layers * share))


def _profile(step: Callable[[], Any], device: str) -> list[dict[str, Any]]:
    """The eight kernels (on a CPU: operators) that take most time of one step."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device != "cpu":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        step()
        if device != "cpu":
            torch.cuda.synchronize()
    name = "self_cpu_time_total" if device == "cpu" else "self_device_time_total"
    events = sorted(profile.key_averages(), key=lambda event: -getattr(event, name))
    total = sum(getattr(event, name) for event in events) or 1
    return [
        {"name": event.key[:80], "share": round(getattr(event, name) / total, 4), "calls": event.count}
        for event in events[:8]
    ]


if __name__ == "__main__":
    sys.exit(main("training", measure))
