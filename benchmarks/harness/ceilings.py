"""Measure what this machine can do at best: large matrix products per second, bytes copied per second."""

import statistics
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness.timing import cpu_seconds


@cache
def matmul_rate(size: int = 1536, repeats: int = 5) -> float:
    """Operations per second of a product of two large fp32 matrices, on the threads that torch has now."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / _median_seconds(lambda: left @ right, repeats)


@cache
def read_rate(megabytes: int = 256, repeats: int = 5) -> float:
    """Bytes per second of a matrix times a vector: reading weights once, which is what decoding one token is."""
    rows = megabytes * 2**20 // 4 // 4096
    matrix, vector = torch.randn(rows, 4096), torch.randn(4096)
    return matrix.numel() * 4 / _median_seconds(lambda: matrix @ vector, repeats)


def count_flops(run: Callable[[], Any]) -> float:
    """Operations of the matrix products, convolutions and attentions that `run` does, backward passes included."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def _median_seconds(run: Callable[[], Any], repeats: int) -> float:
    run()
    seconds = []
    for _ in range(repeats):
        started = cpu_seconds()
        run()
        seconds.append(cpu_seconds() - started)
    return statistics.median(seconds)


__all__ = ["count_flops", "matmul_rate", "read_rate"]
