"""
Start `python -m MODULE ...` in a process that is forked from one which has imported what training needs.

A process of its own has to import for eight CPU seconds before it trains a tiny model for one. Here one process of the
test session imports, is left clean (no thread, no model), and is forked for each start; killing a fork is killing a
process. Who claims something about the start itself uses `subprocess`.
"""

import importlib
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing import connection, forkserver
from pathlib import Path


_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["transformers_llava.training.sft"])


class Forked:
    """`main(arguments)` of a module at work, with what tests use of `subprocess.Popen`."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path):
        python, flag, module, *arguments = command
        assert (python, flag) == (sys.executable, "-m"), f"{command} does not run a module"
        self.process = _CONTEXT.Process(target=_run, args=(module, arguments, {**os.environ, **env}, log))
        self.process.start()
        assert self.process.pid is not None
        self.pid: int = self.process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return self.process.exitcode

    def kill(self) -> None:
        self.process.kill()


def wait_for_all(processes: Sequence[Forked], timeout: float) -> None:
    """Returns when all have ended, or one has failed, for which the others would wait in vain."""
    end = time.monotonic() + timeout
    while any(process.poll() is None for process in processes) and not any(process.poll() for process in processes):
        running = [process.process.sentinel for process in processes if process.poll() is None]
        if not connection.wait(running, end - time.monotonic()):
            raise subprocess.TimeoutExpired(f"processes {[process.pid for process in processes]}", timeout)


def server_pid() -> int | None:
    """The process that is forked, once there is one."""
    return forkserver._forkserver._forkserver_pid


def _run(module: str, arguments: list[str], env: dict[str, str], log: Path) -> None:
    os.environ.clear()
    os.environ.update(env)
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        os.dup2(file, number)
        stream.reconfigure(line_buffering=True)
    import torch

    torch.set_num_threads(int(env.get("OMP_NUM_THREADS", "1")))
    importlib.import_module(module).main(arguments)
