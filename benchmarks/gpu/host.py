"""Measure what the host costs a step: the GPU's idle share, synchronisations, the optimizer, loading of images.

python -m benchmarks.gpu.host [--dry]
"""

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.gpu.measuring import device_seconds, figure, forget_peak, main, median
from benchmarks.gpu.shapes import Shapes, make_ours, packed_batch, stage_samples
from benchmarks.gpu.training import _make_step
from benchmarks.harness.processors import make_image
from benchmarks.harness.results import Comparison
from transformers_llava.modeling.image_processing_pil_open_llava import OpenLlavaImageProcessorPil
from transformers_llava.modeling.packs.varlen_attention import VARLEN


def measure(shapes: Shapes, device: str) -> list[Comparison]:
    samples = stage_samples(shapes, 2)
    model = make_ours(shapes, device, VARLEN)
    model.activation_checkpointing_enable({"use_reentrant": False})
    batch = packed_batch(shapes, samples, device)
    step = _make_step(model, 2)
    seconds = median(device_seconds(lambda: step(batch), device, shapes.repeats))
    lines = [
        figure(
            "idle share of the GPU",
            _idle_share(lambda: step(batch), device),
            "of the step",
            "1 - time in which a kernel runs, of a step of stage 2, packed and checkpointed",
            floor=0.0,
            floor_is="the GPU never waits",
        ),
        figure(
            "synchronisations",
            _synchronisations(lambda: step(batch), device),
            "a step",
            "calls in which the host waits for the GPU, of forward, backward and optimizer",
            floor=0.0,
            floor_is="none outside logging",
        ),
        _optimizer(model, seconds, device, shapes.repeats),
        _images(len(samples), seconds),
    ]
    forget_peak(device)
    return lines


def _idle_share(step: Callable[[], Any], device: str) -> float:
    """Union of the kernels' spans over the span from the first to the last; 0 on a CPU, where all is host."""
    if device == "cpu":
        step()
        return 0.0
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(2):
            step()
        torch.cuda.synchronize()
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profile.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
    )
    busy, end = 0.0, spans[0][0]
    for start, stop in spans:
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return round(1 - busy / (end - spans[0][0]), 4)


def _synchronisations(step: Callable[[], Any], device: str) -> float:
    if device == "cpu":
        step()
        return 0.0
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return float(sum("synchronizing" in str(warning.message) for warning in caught))


def _optimizer(model: Any, step_seconds: float, device: str, repeats: int) -> Comparison:
    """AdamW, fused, over every trained weight, as a share of the step."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer = torch.optim.AdamW(trained, lr=0.0, fused=True)
    seconds = median(device_seconds(optimizer.step, device, repeats))
    size = sum(parameter.numel() * parameter.element_size() for parameter in trained)
    for parameter in trained:
        parameter.grad = None
    return figure(
        "optimizer",
        round(seconds / step_seconds, 4),
        "of the step",
        f"fused AdamW over {size / 1e9:.2f} GB of weights",
    )


def _images(num_images: int, step_seconds: float) -> Comparison:
    """Worker processes that the loader needs to prepare a step's images while the step before runs."""
    processor = OpenLlavaImageProcessorPil(image_aspect_ratio="pad")
    images = [make_image(seed=number) for number in range(4)]
    processor(images, return_tensors="pt")
    started = time.process_time()
    processor(images, return_tensors="pt")
    each = (time.process_time() - started) / len(images)
    return figure(
        "loader",
        round(num_images * each / step_seconds, 3),
        "workers",
        f"to pad, resize and normalise {num_images} decoded images a step, {each * 1e3:.1f} ms each",
    )


if __name__ == "__main__":
    sys.exit(main("host", measure))
