"""Turn the measuring function of one question into a program: flags, one thread, a table, a results file."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness.results import ROOT, Comparison, format_table, write_results


CPU_RESULTS = ROOT / "benchmarks" / "results" / "cpu.json"


def main(question: str, measure: Callable[[int], list[Comparison]], *, repeats: int, clock: str) -> int:
    """
    Run one question and return the exit status: 1 if a target was missed.

    Args:
        question (`str`): Name of the file in `benchmarks/`.
        measure (`Callable`): Number of turns to comparisons.
        repeats (`int`): Turns by default.
        clock (`str`): What the seconds are, in words.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{question}")
    parser.add_argument("--json", type=Path, help="results file in which to put the lines (default: nowhere)")
    parser.add_argument("--repeats", type=int, default=repeats, help=f"turns of each comparison (default: {repeats})")
    args = parser.parse_args()
    quiet()
    comparisons = measure(args.repeats)
    print(format_table(comparisons))
    if args.json is not None:
        command = f"python -m benchmarks.{question}"
        write_results(args.json, comparisons, command=command, setting={"threads": 1, "clock": clock})
    return 0 if all(comparison.is_kept for comparison in comparisons) else 1


def quiet() -> None:
    """One thread, no network, no progress bars and no warnings of libraries between the lines."""
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


__all__ = ["CPU_RESULTS", "main", "quiet"]
