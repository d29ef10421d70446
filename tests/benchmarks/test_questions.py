"""The CPU questions run at small sizes: both sides still compute the same thing, and every line can be written."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import generating, loss_head, packed_training, preprocessing, starting, vision_tower
from benchmarks.conversion_memory import write_checkpoint
from benchmarks.harness.results import Comparison, read_results, write_results
from transformers_llava.conversion.convert import convert_checkpoint


SMALL: dict[str, Callable[[], list[Comparison]]] = {
    "generating": lambda: generating.measure(1, vision_layers=2, layers=1, hidden=64),
    "loss_head": lambda: loss_head.measure(1, hidden=16, vocabulary=128),
    "packed_training": lambda: packed_training.measure(1, scale=0.0002, hidden=64, small_hidden=64, batch_size=2),
    "preprocessing": lambda: preprocessing.measure(1),
    "vision_tower": lambda: vision_tower.measure(1, clip_layers=2, siglip_layers=2),
}


@pytest.mark.parametrize("question", SMALL)
def test_a_question_runs_small_and_checks_what_it_compares(question: str, tmp_path: Path) -> None:
    comparisons = SMALL[question]()
    file = tmp_path / "cpu.json"
    write_results(file, comparisons, command=f"python -m benchmarks.{question}", setting={"threads": 1})
    lines = read_results(file)
    assert len(lines) == len(comparisons) >= 3
    for line in lines:
        assert line["ours"] > 0
        assert line["other"] > 0
        assert line["checked"]


def test_loading_and_converting_compare_equal_tensors(tmp_path: Path) -> None:
    """Of `starting`, all but the imports, which take seconds each."""
    _, num_bytes = write_checkpoint(tmp_path, "2MB", "2MB", "safetensors", "float16")
    convert_checkpoint(tmp_path / "original", tmp_path / "native")
    convert_checkpoint(tmp_path / "original", tmp_path / "builtin", to="builtin")
    lines = [*starting._loads(tmp_path, 1), starting._conversion(tmp_path, num_bytes, 1)]
    assert [line.name for line in lines] == ["load, our layout", "load, original layout on the fly", "conversion"]
