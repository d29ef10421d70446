"""Measure the most memory that the running demo and its child processes hold together."""

import threading
from types import TracebackType

import psutil


class PeakMemory:
    """
    Watches the resident memory of this process and all its children while the block runs.

    Memory that processes share counts once per process, so the figure is an upper bound.

    Example:

    ```python
    with PeakMemory() as memory:
        train()
    print(memory.gigabytes)
    ```
    """

    def __init__(self, interval: float = 0.25) -> None:
        self.gigabytes = 0.0
        self._interval = interval
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._stopped.wait(self._interval):
            self._look()

    def _look(self) -> None:
        own = psutil.Process()
        total = 0
        for process in [own, *own.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.Error:  # it ended between the listing and the look
                continue
        self.gigabytes = max(self.gigabytes, total / 1e9)


__all__ = ["PeakMemory"]
