"""The promise of the memory benchmark, at a size that fits into a test."""

import importlib.util
from pathlib import Path


def test_peak_memory_of_a_conversion_stays_below_the_promise(tmp_path):
    file = Path(__file__).resolve().parents[2] / "benchmarks" / "conversion_memory.py"
    spec = importlib.util.spec_from_file_location("conversion_memory", file)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    largest, total = benchmark.write_checkpoint(tmp_path, "250MB", "70MB", "bin", "float16")
    assert total > 3 * largest
    peak = benchmark.convert_in_own_process(tmp_path / "original", tmp_path / "ours", None)
    assert peak < 1.5 * largest + benchmark.OVERHEAD
    assert (tmp_path / "ours" / "model.safetensors").stat().st_size > 0.9 * total
