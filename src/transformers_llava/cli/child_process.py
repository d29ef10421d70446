"""Run a child in a process group of its own and pass signals on to it."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def own_group() -> dict[str, Any]:
    """
    The training in a process group of its own, in which nobody dies of SIGTERM or SIGUSR1 by default.

    accelerate's launcher would: it stands between us and the training, and has no handler. What is ignored stays so in
    every child that does not say otherwise, and the training does.
    """
    if os.name != "posix":
        return {}

    def ignore() -> None:
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)

    return {"process_group": 0, "preexec_fn": ignore}


def send_signal_to(process: subprocess.Popen[bytes], number: int) -> None:
    if process.poll() is not None:
        return
    if os.name == "posix":
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)


@contextmanager
def passing_on_signals(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """A scheduler tells us; the training is told."""
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGUSR1)
    before = {
        number: signal.signal(number, lambda received, frame: send_signal_to(process, received)) for number in numbers
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


__all__ = ["own_group", "passing_on_signals", "send_signal_to"]
