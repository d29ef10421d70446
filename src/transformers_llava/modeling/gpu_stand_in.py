"""Let tensors on a CPU stand for tensors on a GPU, so that a traced step takes the branches of a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


_CPU_STANDS_FOR_GPU = ContextVar("_CPU_STANDS_FOR_GPU", default=False)


@contextmanager
def cpu_stands_for_gpu() -> Iterator[None]:
    """
    Inside, code that asks by [`stands_for_gpu`] does on a CPU what it does on a GPU.

    For fake tensors alone: a build of torch without CUDA cannot declare them to be on a GPU, and what runs there, such
    as the flash kernels, does not run on a CPU.
    """
    token = _CPU_STANDS_FOR_GPU.set(True)
    try:
        yield
    finally:
        _CPU_STANDS_FOR_GPU.reset(token)


def stands_for_gpu() -> bool:
    """Whether tensors on a CPU stand for tensors on a GPU."""
    return _CPU_STANDS_FOR_GPU.get()


__all__ = ["cpu_stands_for_gpu", "stands_for_gpu"]
