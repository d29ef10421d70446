"""Make the Hub answer late, fail, hang up or hang after a number of requests, and keep a log."""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tests.fake_hub.errors import HubError
from tests.fake_hub.exchange import Answer


How = Literal["error", "drop", "stall"]
_LONGEST_STALL = 900.0  # seconds; nothing waits for ever on a test that has died


class HungUpError(Exception):
    """The connection closes without an answer."""


@dataclass(frozen=True)
class FaultPlan:
    """
    Args:
        fail_after (`int`, *optional*): so many requests from now on work, and none after them.
        how: `error` answers 503, `drop` closes the connection, `stall` says nothing until the plan changes.
        when: `before` the request has been carried out, or `after` it, so that only the answer is lost.
        only (`str`, *optional*): count and fail only requests whose `METHOD path` contains this.
        delay (`float`): seconds before every request.
    """

    fail_after: int | None = None
    how: How = "drop"
    when: Literal["before", "after"] = "before"
    only: str | None = None
    delay: float = 0.0


@dataclass
class Faults:
    """The plan in force, and what was asked since the server began: `("POST /api/repos/create", 200)` and so on."""

    plan: FaultPlan = field(default_factory=FaultPlan)
    requests: list[tuple[str, int]] = field(default_factory=list)
    num_counted: int = 0
    num_stalled: int = 0  # requests that stand still under this plan
    _changed: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def change(self, plan: FaultPlan) -> dict[str, Any]:
        with self._lock:
            self.plan, self.num_counted, self.num_stalled = plan, 0, 0
            self._changed.set()  # who stalls wakes up and hangs up
            self._changed = threading.Event()
        return asdict(plan)

    def carry_out(self, request: str, action: Callable[[], Answer]) -> Answer:
        """Returns what `action` returns, or fails before or after it, as planned."""
        plan, changed, fails = self._count(request)
        time.sleep(plan.delay)
        if not fails:
            return action()
        if plan.when == "after":
            action()
        if plan.how == "stall":
            self.num_stalled += 1
            changed.wait(_LONGEST_STALL)
        if plan.how == "error":
            raise HubError(503, "Service unavailable, as the test wanted it")
        raise HungUpError

    def log(self, request: str, status: int) -> None:
        with self._lock:
            self.requests.append((request, status))

    def _count(self, request: str) -> tuple[FaultPlan, threading.Event, bool]:
        with self._lock:
            plan = self.plan
            if plan.only is not None and plan.only not in request:
                return plan, self._changed, False
            self.num_counted += 1
            return plan, self._changed, plan.fail_after is not None and self.num_counted > plan.fail_after
