"""Write the outcome of every test to the file that `CONFORMANCE_RECORD` names, as a pytest plugin.

A test with a failing subtest has failed; one that is expected to fail and does counts as skipped.
"""

import json
import os
from pathlib import Path
from typing import Any


_RANK = {"skipped": 0, "passed": 1, "failed": 2}
_outcomes: dict[str, str] = {}
_reasons: dict[str, str] = {}


def pytest_runtest_logreport(report: Any) -> None:
    outcome = "skipped" if hasattr(report, "wasxfail") else report.outcome
    if report.when != "call" and outcome == "passed":
        return
    name = report.nodeid.rpartition("::")[2]
    if _RANK[outcome] >= _RANK.get(_outcomes.get(name, ""), -1):
        _outcomes[name] = outcome
    if outcome == "failed":
        lines = [line for line in str(report.longrepr).splitlines() if line.startswith("E ")]
        _reasons.setdefault(name, lines[0][1:].strip()[:200] if lines else "")


def pytest_sessionfinish() -> None:
    record = {"outcomes": _outcomes, "reasons": _reasons}
    Path(os.environ["CONFORMANCE_RECORD"]).write_text(json.dumps(record), encoding="utf-8")
