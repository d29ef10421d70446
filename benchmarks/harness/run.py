"""Run all CPU questions, one process each, into `benchmarks/results/cpu.json` and the page that shows it.

    python -m benchmarks.harness.run [--only loss_head vision_tower] [--json FILE]

Under 10 minutes on two cores. Exit status 1 if any target was missed; every question runs all the same.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.harness.command import CPU_RESULTS
from benchmarks.harness.performance_page import write_page
from benchmarks.harness.results import ROOT


QUESTIONS = ("packed_training", "vision_tower", "loss_head", "generating", "preprocessing", "starting")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=QUESTIONS, default=QUESTIONS, help="questions (default: all)")
    parser.add_argument("--json", type=Path, default=CPU_RESULTS, help="results file (default: the committed one)")
    args = parser.parse_args()
    missed = []
    for question in args.only:
        started = time.perf_counter()
        print(f"\n{question}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{question}", "--json", str(args.json.resolve())]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            missed.append(question)
        print(f"({time.perf_counter() - started:.0f} s)", flush=True)
    if args.json == CPU_RESULTS:
        write_page()
    if missed:
        print(f"\nmissed a target, or failed: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
