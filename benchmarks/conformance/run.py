"""Run transformers' own tests against our classes and the built-in ones, and record what passed.

    make conformance
    make conformance ARGS="--repository ../transformers --revision v5.23.0"    # without GitHub

Exit status 1 if a test fails with our class that passes with the built-in class, or that the latter does not have.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.conformance.page import render
from benchmarks.conformance.suite import Suite, default_cache, prepare


ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "conformance.json"
PAGE = ROOT / "docs" / "reference" / "conformance.md"
MODELING, PROCESSING = "test_conformance_modeling.py", "test_conformance_processing.py"
BUILTIN_MODELS = {
    "llava": "tests/models/llava/test_modeling_llava.py::LlavaForConditionalGenerationModelTest",
    "llava_next": "tests/models/llava_next/test_modeling_llava_next.py::LlavaNextForConditionalGenerationModelTest",
}


@dataclass(frozen=True)
class Subject:
    """
    Args:
        suite: What is examined.
        name: Ours or a built-in class.
        tests: Class of tests, as pytest names it.
        beside: Built-in subjects whose failures excuse the same ones of ours.
    """

    suite: str
    name: str
    tests: str
    beside: tuple[str, ...] = ()


SUBJECTS = [
    Subject("models", "llava", BUILTIN_MODELS["llava"]),
    Subject("models", "llava_next", BUILTIN_MODELS["llava_next"]),
    Subject("models", "open_llava", f"{MODELING}::OpenLlavaModelTest", ("llava", "llava_next")),
    Subject("models", "open_llava, tiled", f"{MODELING}::OpenLlavaTiledModelTest", ("llava", "llava_next")),
    Subject("processors", "llava", f"{PROCESSING}::LlavaProcessorTest"),
    Subject("processors", "llava_next", f"{PROCESSING}::LlavaNextProcessorTest"),
    Subject("processors", "open_llava", f"{PROCESSING}::OpenLlavaProcessorTest", ("llava", "llava_next")),
    Subject("image processors", "llava", f"{PROCESSING}::LlavaImageProcessorTest"),
    Subject("image processors", "open_llava", f"{PROCESSING}::OpenLlavaImageProcessorTest", ("llava",)),
    Subject("image processors", "open_llava, pad", f"{PROCESSING}::OpenLlavaPaddingImageProcessorTest", ("llava",)),
]


@dataclass
class Result:
    suite: str
    name: str
    beside: list[str]
    passed: int = 0
    skipped: int = 0
    failures: dict[str, str] = field(default_factory=dict)  # test to the first line of its error
    alone: list[str] = field(default_factory=list)  # failures that no class beside it has


def examine(subject: Subject, suite: Suite) -> Result:
    """One class of tests in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        record = Path(scratch) / "record.json"
        paths = [str(suite.site), str(ROOT / "src"), str(suite.folder), str(Path(__file__).parent)]
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "CONFORMANCE_RECORD": str(record),
            "CONFORMANCE_TINY": str(ROOT / "tests" / "tiny.py"),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "TMPDIR": scratch,
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "recorder", "-p", "no:cacheprovider"]
        command += ["--timeout", "300", "--tb", "short", subject.tests]
        done = subprocess.run(command, cwd=suite.folder, env=env, capture_output=True, text=True, check=False)
        if not record.is_file():
            raise RuntimeError(f"{subject.tests} could not be run:\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
        outcomes: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    if not outcomes["outcomes"]:
        raise RuntimeError(f"{subject.tests} ran no test:\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
    names = outcomes["outcomes"]
    return Result(
        subject.suite,
        subject.name,
        list(subject.beside),
        passed=sum(outcome == "passed" for outcome in names.values()),
        skipped=sum(outcome == "skipped" for outcome in names.values()),
        failures={name: outcomes["reasons"][name] for name in sorted(names) if names[name] == "failed"},
    )


def compare(results: list[Result]) -> None:
    """Fills in `alone`: failures of a class of ours that no built-in class beside it has."""
    found = {(result.suite, result.name): result for result in results}
    for result in results:
        excused = {test for name in result.beside for test in found[result.suite, name].failures}
        result.alone = sorted(set(result.failures) - excused) if result.beside else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, help="clone of transformers, where its archive cannot be reached")
    parser.add_argument("--revision", default="HEAD", help="commit of the clone")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where the suite is kept")
    args = parser.parse_args()
    suite = prepare(args.cache, args.repository, args.revision)
    for adapter in (Path(__file__).parent / "adapters").glob("test_*.py"):
        shutil.copy(adapter, suite.folder)
    results = []
    for subject in SUBJECTS:
        if subject.suite == "models" and not suite.has_models:
            print(f"{subject.suite}: {subject.name}: not run, {suite.origin}")
            continue
        result = examine(subject, suite)
        results.append(result)
        print(f"{result.suite}: {result.name}: {result.passed} passed, {len(result.failures)} failed", flush=True)
    compare(results)
    packages = {name: version(name) for name in ("transformers", "torch", "pytest")}
    record = {"packages": packages, "origin": suite.origin, "results": [asdict(result) for result in results]}
    if suite.has_models:  # half a run is no record
        RESULTS.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        PAGE.write_text(render(record), encoding="utf-8")
    alone = [f"{result.name}: {test}" for result in results for test in result.alone]
    print("\n".join(["Failures that no built-in class has:", *alone]) if alone else "No failure of ours alone.")
    return 1 if alone or not suite.has_models else 0


if __name__ == "__main__":
    sys.exit(main())
