"""Filters: what is wanted stays, what is not is counted by the condition it does not meet."""

from pathlib import Path

import pytest

from transformers_llava.data.mixture.config import MixtureConfig, SourceConfig
from transformers_llava.data.mixture.mixture_building import build_mixture
from transformers_llava.data.mixture.source import load_source
from transformers_llava.data.records.filters import RecordFilter


def record(number: int, image: str | None = None, rounds: int = 1) -> dict:
    turns = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}] * rounds
    if image is not None:
        turns[0] = {"from": "human", "value": "<image>\nQ"}
    return {"id": str(number), "conversations": turns, **({"image": image} if image else {})}


@pytest.fixture
def path(write_source, png) -> Path:
    records = [record(1, "coco/x.png"), record(2, "vg/y.png"), record(3), record(4, rounds=3), {"id": "bad"}]
    return write_source(records, {"coco/x.png": png(), "vg/y.png": png(seed=1)})


@pytest.mark.parametrize(
    ("filters", "kept", "filtered"),
    [
        ({"has_image": True}, ["1", "2"], {"has_image": 2}),
        ({"has_image": False}, ["3", "4"], {"has_image": 2}),
        ({"image_folders": "coco"}, ["1", "3", "4"], {"image_folders": 1}),
        ({"image_folders": ["coco", "vg/"]}, ["1", "2", "3", "4"], {}),
        ({"image_folders": ["co"]}, ["3", "4"], {"image_folders": 2}),
        ({"max_rounds": 2, "max_images": 0}, ["3"], {"max_images": 2, "max_rounds": 1}),
        ({"min_rounds": 2}, ["4"], {"min_rounds": 3}),
        ({"max_characters": 2}, ["1", "2", "3"], {"max_characters": 1}),
    ],
)
def test_what_is_not_wanted_is_counted_and_is_no_defect(path: Path, filters, kept, filtered):
    dataset, report = load_source(SourceConfig("s", str(path), filters=filters))
    assert dataset["id"] == kept
    assert dict(report.filtered) == filtered
    assert dict(report.dropped) == {"invalid_record": 1}
    assert report.num_read == report.num_kept + report.dropped.total() + report.filtered.total() == 5


def test_filters_are_in_the_table(path: Path):
    _, report = build_mixture(MixtureConfig([SourceConfig("s", str(path), filters={"has_image": True})]))
    assert "| s | has_image | 2 |" in report.to_markdown()


def test_a_filtered_record_does_not_stop_a_strict_run(write_source):
    path = write_source([record(1), record(2, rounds=2)])
    dataset, _ = load_source(SourceConfig("s", str(path), filters={"max_rounds": 1}), strict=True)
    assert dataset["id"] == ["1"]


@pytest.mark.parametrize(
    "filters", [{"has_images": True}, {"has_image": "yes"}, {"max_rounds": -1}, {"max_rounds": True}, ["has_image"]]
)
def test_what_is_no_filter_is_refused(filters):
    with pytest.raises(ValueError, match="source 's' "):
        SourceConfig("s", "x.json", filters=filters)


def test_only_what_is_set_is_recorded():
    assert RecordFilter.from_dict({"image_folders": ["a"], "has_image": True}, "s").to_dict() == {
        "has_image": True,
        "image_folders": ["a"],
    }
