"""Measure seconds, bytes and operations of a function on a device, and write a question's results file."""

import argparse
import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.shapes import DRY, REAL, Sample, Shapes
from benchmarks.harness.performance_page import GPU_RESULTS
from benchmarks.harness.results import Comparison, format_table, write_results


def main(question: str, measure: Callable[[Shapes, str], list[Comparison]], argv: list[str] | None = None) -> int:
    """
    Run one question on the GPU, or on small shapes on the CPU with `--dry`; exit status 1 if a target was missed.

    Args:
        question (`str`): Name of the file in `benchmarks/gpu/`.
        measure (`Callable`): Shapes and device to figures.
        argv (`list`, *optional*): Flags, of the command line by default.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.gpu.{question}")
    parser.add_argument("--dry", action="store_true", help="small shapes on the CPU: does it run? No figure counts")
    parser.add_argument("--json", type=Path, help=f"results file (default: {GPU_RESULTS.name}/{question}.json)")
    args = parser.parse_args(argv)
    if not args.dry and not torch.cuda.is_available():
        parser.error("no GPU is to be seen, so nothing can be measured. Use --dry to see whether the suite runs.")
    device, shapes = ("cpu", DRY) if args.dry else ("cuda", REAL)
    figures = measure(shapes, device)
    print(format_table(figures))
    if args.dry:
        print("a dry run on small shapes: it runs, and none of these figures means anything")
    file = args.json or (None if args.dry else GPU_RESULTS / f"{question}.json")
    if file is not None:
        kind = "dry run on small shapes; no figure counts" if args.dry else torch.cuda.get_device_name()
        setting = {
            "threads": torch.get_num_threads(),
            "clock": "device events" if not args.dry else "wall",
            "gpu": kind,
        }
        write_results(file, figures, command=f"python -m benchmarks.gpu.{question}", setting=setting)
    return 0 if args.dry or all(figure.is_kept for figure in figures) else 1


def device_seconds(run: Callable[[], Any], device: str, repeats: int, *, warmups: int = 2) -> list[float]:
    """Seconds of each of `repeats` runs: between two events on the device's stream, or by the clock on a CPU."""
    for _ in range(warmups):
        run()
    seconds = []
    for _ in range(repeats):
        if device == "cpu":
            started = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - started)
            continue
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        seconds.append(begin.elapsed_time(end) / 1e3)
    return seconds


def peak_gigabytes(device: str) -> float:
    """Most memory that tensors took since [`forget_peak`]; 0 on a CPU, where nobody counts."""
    return torch.cuda.max_memory_allocated() / 1e9 if device != "cpu" else 0.0


def forget_peak(device: str) -> None:
    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


@contextlib.contextmanager
def memory_cap(device: str, gigabytes: float) -> Iterator[None]:
    """At most so much of the card: what asks for more fails, as on a small one."""
    if device == "cpu":
        yield
        return
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(gigabytes * 1e9 / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def figure(name: str, value: float, unit: str, what: str, **facts: Any) -> Comparison:
    """A figure that stands alone."""
    facts = {"checked": "", "other_is": "nothing: a figure of its own", **facts}
    return Comparison(name=name, ours=_short(value), other=None, ratio=None, unit=unit, ours_is=what, **facts)


def median(values: list[float]) -> float:
    return statistics.median(values)


def matmul_rate(shapes: Shapes, device: str) -> float:
    """Operations per second of a large product in the model's precision: the ceiling of all that is a product."""
    size = 8192 if device != "cpu" else 256
    left, right = (torch.randn(size, size, device=device, dtype=shapes.dtype) for _ in range(2))
    return 2 * size**3 / median(device_seconds(lambda: left @ right, device, shapes.repeats))


def copy_rate(device: str) -> float:
    """Bytes read and written per second by a copy of a large tensor on the device."""
    source = torch.empty(2**30 if device != "cpu" else 2**22, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / median(device_seconds(lambda: target.copy_(source), device, 5))


def useful_flops(shapes: Shapes, samples: list[Sample], stage: int) -> float:
    """
    Operations that the gradient of a step needs, without padding and without anything computed twice.

    Two per weight and token forward, two for the gradient of the input, two for that of the weight (not in stage 1,
    where the language model is frozen); attention 2 T^2 hidden for each causal document and pass; the head where there
    is a label; the tower forward only.
    """
    block = 4 * shapes.hidden**2 + 3 * shapes.hidden * shapes.intermediate
    passes = 2 if stage == 1 else 3
    total = 0.0
    for sample in samples:
        length = sample.text + (shapes.image_tokens if sample.has_image else 0)
        total += shapes.layers * 2 * block * length * passes
        total += shapes.layers * 2 * length**2 * shapes.hidden * 3  # scores and values: backward has twice the work
        total += 2 * shapes.hidden * shapes.vocabulary * sample.supervised * passes
        if sample.has_image:
            total += 2 * (shapes.vision_hidden + shapes.hidden) * shapes.hidden * shapes.image_tokens * 3
            tower = 12 * shapes.vision_hidden**2 * 2 * (shapes.image_tokens + 1)
            tower += 4 * (shapes.image_tokens + 1) ** 2 * shapes.vision_hidden
            total += (shapes.vision_layers - 1) * tower
    return total


def _short(value: float) -> float:
    return float(f"{value:.4g}")


__all__ = [
    "copy_rate",
    "device_seconds",
    "figure",
    "forget_peak",
    "main",
    "matmul_rate",
    "median",
    "memory_cap",
    "peak_gigabytes",
    "useful_flops",
]
