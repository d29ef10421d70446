"""The benchmark's stand-in for the 665K mixture: the published counts, and records that are all good."""

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from transformers_llava.data.mixture.config import SourceConfig
from transformers_llava.data.mixture.mixture_file import read_mixture_file
from transformers_llava.data.mixture.published_parts import published_counts
from transformers_llava.data.mixture.source import load_source


@pytest.fixture(scope="module")
def stand_in() -> ModuleType:
    path = Path(__file__).parents[3] / "benchmarks" / "stand_in.py"
    specification = importlib.util.spec_from_file_location("stand_in", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["stand_in"] = module  # its dataclass looks itself up
    specification.loader.exec_module(module)
    return module


def test_its_counts_are_the_published_ones(stand_in: ModuleType):
    (source,) = read_mixture_file("llava-v1.5-mix665k").sources
    shapes = stand_in.SHAPES.values()
    assert sorted(shape.num_records for shape in shapes) == sorted(part.num_examples for part in source.parts)
    folders: Counter[str] = Counter()
    for shape in shapes:
        folders[shape.folder.partition("/")[0] if shape.folder else "(no image)"] += shape.num_records
    assert folders == published_counts(source.parts)


def test_every_record_of_it_is_good(stand_in: ModuleType, tmp_path: Path):
    path = stand_in.write_stand_in(tmp_path, scale=0.0005, num_images=5)
    dataset, report = load_source(SourceConfig("s", str(path)), num_proc=1)
    assert len(dataset) == report.num_read == sum(round(s.num_records * 0.0005) for s in stand_in.SHAPES.values())
    assert report.num_images == 5
    assert set(report.to_dict()["dropped"]) == set()
