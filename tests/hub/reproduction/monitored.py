"""Run commands of ours in one process that writes down what it and its children do, and read that again."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


_MONITOR = Path(__file__).parents[1] / "monitor"
_RUNNER = """
import contextlib, io, json, os, sys
from transformers_llava.cli.main import main
for name, arguments in json.load(sys.stdin):
    os.environ["MONITOR_CASE"] = name
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status = main(arguments)
        except BaseException as error:
            status = repr(error)
    os.environ["MONITOR_CASE"] = ""
    print(json.dumps([name, status, said.getvalue()]), flush=True)
"""


@dataclass
class Observed:
    """What one command returned and said, and what was done while it ran."""

    status: Any = None
    said: str = ""
    events: list[tuple[str, Any]] = field(default_factory=list)  # (write | start | network | code | pickle, detail)

    def of(self, kind: str) -> list[Any]:
        return [detail for one, detail in self.events if one == kind]

    def written_outside(self, *allowed: Path) -> list[str]:
        places = [str(place.resolve()) for place in allowed]
        return [path for path in self.of("write") if path and not any(path.startswith(place) for place in places)]


def environment(scratch: Path, watched: list[Path]) -> dict[str, str]:
    """Of a monitored process: home, caches and temporary files below `scratch`."""
    for name in ("home", "tmp", "cache"):
        (scratch / name).mkdir(parents=True, exist_ok=True)
    package = Path(__file__).parents[3] / "src"
    others = ("HF_", "TRANSFORMERS_", "PYTEST", "TORCH", "TRITON")  # torch sets some of its own when it is imported
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    return kept | {
        "MONITOR_LOG": str(scratch / "events.jsonl"),
        "MONITOR_WATCHED": json.dumps([str(place.resolve()) for place in watched]),
        "PYTHONPATH": os.pathsep.join((str(_MONITOR), str(package))),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(scratch / "home"),
        "TMPDIR": str(scratch / "tmp"),
        "HF_HOME": str(scratch / "cache"),
        "XDG_CACHE_HOME": str(scratch / "cache"),
        "TRANSFORMERS_LLAVA_CACHE": str(scratch / "cache"),
        "HF_TOKEN": "hf_a_token_that_must_not_travel",
        "OMP_NUM_THREADS": "1",
    }


def run_monitored(cases: list[tuple[str, list[str]]], scratch: Path, watched: list[Path]) -> dict[str, Observed]:
    """`llava` with the arguments of each case, one after the other in one process."""
    done = subprocess.run(
        [sys.executable, "-c", _RUNNER],
        input=json.dumps(cases),
        env=environment(scratch, watched),
        cwd=scratch / "home",
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    found = {name: Observed() for name, _ in cases}
    for line in done.stdout.splitlines():
        name, status, said = json.loads(line)
        found[name].status, found[name].said = status, said
    assert done.returncode == 0, done.stderr[-3000:]
    for name, kind, detail in read_events(scratch):
        if name in found:
            found[name].events.append((kind, detail))
    return found


def read_events(scratch: Path) -> list[tuple[str, str, Any]]:
    """(case, kind, detail) of everything that was written down."""
    lines = (scratch / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [(name, kind, detail) for name, _, kind, detail in map(json.loads, lines)]
