"""Time every step from 665,298 records to a plan of every optimizer step, and measure memory, cold and warm.

    python benchmarks/data_plane.py --json benchmarks/results/data_plane.json

Writes a stand-in for the 665K mixture (`stand_in.py`; not timed), then, each in a process of its own, reads and checks
it, decodes its images, counts the tokens of every record and plans every step of an epoch: once with nothing kept
from before (cold) and once more (warm). Memory is that of the process and its workers together; pages that they share
count once. Exit status 1 if a target is missed.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil


GLOBAL_BATCH, WORLD_SIZE, ACCUMULATION = 128, 8, 2
MAX_LENGTH = 2048
TARGETS = {"cold_seconds": 600, "warm_seconds": 20, "peak_memory_gb": 4, "plan_seconds": 20, "balance": 1.03}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the records (default: all)")
    parser.add_argument("--num_proc", type=int, default=2)
    parser.add_argument("--stand_in", type=Path, help="folder of an earlier stand-in, instead of writing one")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # what the child processes are started with
    args = parser.parse_args()
    if args.measure is not None:
        print(json.dumps(measure(args.measure, args.num_proc)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder), args.stand_in, args.scale, args.num_proc)
    missed = [name for name, target in TARGETS.items() if result[name] > target]
    result["missed"] = missed
    print(json.dumps(result, indent=2))
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    return 1 if missed else 0


def run(folder: Path, stand_in: Path | None, scale: float, num_proc: int) -> dict[str, Any]:
    sys.path.insert(0, str(Path(__file__).parent))
    from stand_in import make_processor, write_stand_in

    file = write_stand_in(folder, scale=scale) if stand_in is None else stand_in / "mix665k.json"
    make_processor(file.parent)  # trains the tokenizer
    cold, warm = (_in_own_process(file.parent, folder / "cache", num_proc) for _ in range(2))
    assert cold["order_digest"] == warm["order_digest"], "the same data, the same order"
    return {
        "cold_seconds": cold["seconds"],
        "warm_seconds": warm["seconds"],
        "peak_memory_gb": max(cold["peak_memory_gb"], warm["peak_memory_gb"]),
        "plan_seconds": max(cold["plan_seconds"], warm["plan_seconds"]),
        "balance": cold["packing"]["mean_balance"],
        "cold": cold,
        "warm": warm,
        "file_mb": round(file.stat().st_size / 1e6),
        "num_records": cold["num_examples"],
        "setting": {
            "scale": scale if stand_in is None else None,
            "num_proc": num_proc,
            "global_batch_size": GLOBAL_BATCH,
            "world_size": WORLD_SIZE,
            "accumulation_steps": ACCUMULATION,
            "max_length": MAX_LENGTH,
        },
        **where_and_when(),
    }


def measure(folder: Path, num_proc: int) -> dict[str, Any]:
    """One pass, in this process. Imports are over when the clock starts."""
    sys.path.insert(0, str(Path(__file__).parent))
    from stand_in import make_processor

    from transformers_llava.data.batches.samplers import PackedBatchSampler
    from transformers_llava.data.mixture.config import MixtureConfig, SourceConfig
    from transformers_llava.data.mixture.mixture_building import build_mixture
    from transformers_llava.data.tokens.length_filter import measure_examples
    from transformers_llava.data.tokens.policy import EncodingPolicy

    processor = make_processor(folder)
    with PeakMemory() as memory:
        started, cpu_before = time.perf_counter(), _cpu_seconds()
        source = SourceConfig("mix665k", str(folder / "mix665k.json"), image_root=str(folder))
        dataset, mixture = build_mixture(MixtureConfig([source]), num_proc=num_proc)
        loaded = time.perf_counter()
        measured = measure_examples(
            dataset, processor, EncodingPolicy(MAX_LENGTH), num_proc=num_proc, cache_key=mixture.content_key()
        )
        counted = time.perf_counter()
        sampler = PackedBatchSampler(
            [length.num_tokens for length in measured.lengths],
            [length.has_image for length in measured.lengths],
            global_batch_size=GLOBAL_BATCH,
            world_size=WORLD_SIZE,
            accumulation_steps=ACCUMULATION,
        )
        packing = sampler.report(max_length=MAX_LENGTH)
        planned = time.perf_counter()
    return {
        "seconds": round(planned - started, 2),
        "cpu_seconds": round(_cpu_seconds() - cpu_before, 2),  # of this process and its workers
        "load_seconds": round(loaded - started, 2),
        "length_seconds": round(counted - loaded, 2),
        "plan_seconds": round(planned - counted, 2),
        "peak_memory_gb": round(memory.gigabytes, 2),
        "num_examples": len(measured.dataset),
        "num_steps": sampler.num_global_batches,
        "lengths": measured.report.to_dict(),
        "packing": packing.to_dict(),
        "order_digest": mixture.order_digest,
    }


class PeakMemory:
    """Watches this process and its children; a page that n processes share counts 1/n in each (PSS)."""

    def __init__(self, interval: float = 0.5) -> None:
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
        own, total = psutil.Process(), 0
        for process in [own, *own.children(recursive=True)]:
            try:
                total += process.memory_full_info().pss
            except psutil.Error:  # it ended between the listing and the look
                continue
        self.gigabytes = max(self.gigabytes, total / 1e9)


def where_and_when() -> dict[str, Any]:
    """Kind of machine, versions, commit and date; no name of a host or a user."""
    root = Path(__file__).parents[1]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 1e9:.0f} GB",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "transformers", "datasets", "tokenizers", "pillow")},
        "commit": commit.stdout.strip() or "unknown",
        "date": datetime.now(UTC).date().isoformat(),
    }


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _in_own_process(folder: Path, cache: Path, num_proc: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", str(folder), "--num_proc", str(num_proc)]
    environment = {**os.environ, "TRANSFORMERS_LLAVA_CACHE": str(cache), "TQDM_DISABLE": "1"}
    process = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(process.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
