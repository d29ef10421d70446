"""Measure what this card can do at best: copies, large matrix products, and what they allow a step to take.

python -m benchmarks.gpu.ceilings [--dry]
"""

import sys

from benchmarks.gpu.measuring import copy_rate, figure, main, matmul_rate, useful_flops
from benchmarks.gpu.shapes import Shapes, num_tokens, stage_samples
from benchmarks.harness.results import Comparison
from transformers_llava.training.estimate.gpus import device_peak


def peak_of(device: str) -> float | None:
    """The maker's peak of this card, if it is known here."""
    return device_peak() if device != "cpu" else None


def measure(shapes: Shapes, device: str) -> list[Comparison]:
    rate, copied, peak = matmul_rate(shapes, device), copy_rate(device), peak_of(device)
    stated = f"the maker's peak, {peak / 1e12:.0f} TFLOP/s" if peak else "none: the card is not in the table"
    figures = [
        figure(
            "matmul",
            rate / 1e12,
            "TFLOP/s",
            "square product in the model's precision",
            floor=peak / 1e12 if peak else None,
            floor_is=stated,
            higher_is_better=True,
        ),
        figure("copy", copied / 1e9, "GB/s", "bytes read and written by a copy on the device", higher_is_better=True),
    ]
    for stage in (1, 2):
        samples = stage_samples(shapes, stage)
        flops = useful_flops(shapes, samples, stage)
        figures.append(
            figure(
                f"stage {stage}, least time of a micro-step",
                flops / rate * 1e3,
                "ms",
                f"{len(samples)} examples, {num_tokens(shapes, samples):,} tokens, {flops / 1e12:.1f} TFLOP at the "
                "rate of the product above",
            )
        )
    weights = shapes.layers * (4 * shapes.hidden**2 + 3 * shapes.hidden * shapes.intermediate)
    weights += shapes.hidden * shapes.vocabulary
    size = weights * shapes.dtype.itemsize
    least = size / copied
    figures.append(figure("least time of a token", least * 1e3, "ms", f"{size / 1e9:.1f} GB of weights read once"))
    return figures


if __name__ == "__main__":
    sys.exit(main("ceilings", measure))
