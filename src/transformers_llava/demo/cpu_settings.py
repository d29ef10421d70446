"""Set what C and OpenMP libraries read, so that many small training steps run well on a CPU."""

import ctypes
import gc
import os
import sys


# glibc returns large blocks to the kernel at once and gets them back page by page, zeroed; a training step frees and
# asks for the same blocks every time. Keeping them saves a third of the time. See mallopt(3): variable, number, value.
_ALLOCATOR = (
    ("MALLOC_TRIM_THRESHOLD_", -1, 2**31 - 1),
    ("MALLOC_TOP_PAD_", -2, 2**28),
    ("MALLOC_MMAP_THRESHOLD_", -3, 2**30),
)
# Threads that wait for each other spin. On a machine that does other work too they spin for ever; this shortens it.
_SPIN_COUNT = "20000"


def prepare_cpu() -> None:
    """Keeps freed memory in this process and, through the environment, in its children, which also spin less."""
    os.environ.setdefault("GOMP_SPINCOUNT", _SPIN_COUNT)
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return
    for variable, parameter, value in _ALLOCATOR:
        mallopt(parameter, value)
        os.environ.setdefault(variable, str(value))


def release_memory() -> None:
    """Gives what is kept back to the system, before child processes need it."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        return


__all__ = ["prepare_cpu", "release_memory"]
