"""
Measure the CPU seconds of every test, its fixtures and its ended child processes: `pytest --cpu_seconds`.

Wall time depends on who else uses the machine; this hardly does. A fixture of a module or of the session is counted
with the first test that asks for it.
"""

import os
from collections import defaultdict
from collections.abc import Iterator

import psutil
import pytest

from forked import server_pid


SLOW = 20.0  # CPU seconds from which a test, with the fixtures that it is the first to ask for, is marked `slow`
NUM_SHOWN = 20


class CpuSeconds:
    """Adds up setup, call and teardown of each test, also of those that pytest-xdist runs in other processes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.slow: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        return (yield from _measured(item, "setup"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        return (yield from _measured(item, "call"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        return (yield from _measured(item, "teardown"))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if "slow" in report.keywords:
            self.slow.add(report.nodeid)
        self.seconds[report.nodeid] += sum(value for name, value in report.user_properties if name == report.when)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        write = terminalreporter.write_line
        write(f"\n{sum(self.seconds.values()):.0f} CPU seconds in {len(self.seconds)} tests; those of most:")
        for name, seconds in sorted(self.seconds.items(), key=lambda each: -each[1])[:NUM_SHOWN]:
            write(f"{seconds:8.1f}  {name}")
        unmarked = [name for name, seconds in self.seconds.items() if seconds > SLOW and name not in self.slow]
        for name in sorted(unmarked):
            write(f"above {SLOW:.0f} CPU seconds and not marked `slow`: {name}")


def _measured(item: pytest.Item, phase: str) -> Iterator[None]:
    before = _spent()
    try:
        return (yield)
    finally:
        item.user_properties.append((phase, _spent() - before))


def _spent() -> float:
    """Of this process, of the one that `forked.py` forks, and of their ended children."""
    forking = server_pid()
    return sum(os.times()[:4]) + (0.0 if forking is None else sum(psutil.Process(forking).cpu_times()[:4]))
