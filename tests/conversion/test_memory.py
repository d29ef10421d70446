"""The target of the memory benchmark at a size that fits into a test, beside a conversion that breaks it."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from support.original_folders import write_original


# A process that imports the same and converts next to nothing, then one that holds the whole checkpoint meanwhile.
CONTROL = """
import sys
from pathlib import Path
from transformers_llava.conversion.weights.tensor_files import open_state
from transformers_llava.conversion.convert import convert_checkpoint

def peak():
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

small, source, target = sys.argv[1:]
convert_checkpoint(small, target + "-small")
print("baseline", peak())
held = [tensor.read().clone() for tensor in open_state(source).values()]
convert_checkpoint(source, target)
print("holds all", peak())
"""


def test_a_conversion_holds_little_more_than_a_shard_and_one_that_holds_all_would_be_seen(tmp_path):
    file = Path(__file__).resolve().parents[2] / "benchmarks" / "conversion_memory.py"
    spec = importlib.util.spec_from_file_location("conversion_memory", file)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    largest, total = benchmark.write_checkpoint(tmp_path, "250MB", "70MB", "bin", "float16")
    assert total > 3 * largest
    peak = benchmark.convert_in_own_process(tmp_path / "original", tmp_path / "ours", None)
    small = write_original(tmp_path / "small" / "original").folder
    arguments = [str(small), str(tmp_path / "original"), str(tmp_path / "held")]
    done = subprocess.run(
        [sys.executable, "-c", CONTROL, *arguments],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    baseline, holds_all = (int(line.split()[-1]) for line in done.stdout.splitlines()[-2:])
    target = baseline + 1.5 * largest
    assert peak < target, (peak, baseline, largest)
    assert holds_all > target, (holds_all, baseline, total)  # or the limit could not be exceeded at this size
    assert baseline < benchmark.OVERHEAD
    assert (tmp_path / "ours" / "model.safetensors").stat().st_size > 0.9 * total
