"""Mixtures from YAML: ours, and LLaVA-NeXT's."""

import json
from pathlib import Path

import pytest

from transformers_llava.data.mixture.mixture_building import build_mixture
from transformers_llava.data.mixture.mixture_file import read_mixture_file


def write(folder: Path, text: str) -> Path:
    (folder / "mixture.yaml").write_text(text)
    return folder / "mixture.yaml"


def records(numbers: range) -> str:
    turns = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]
    return json.dumps([{"id": str(number), "conversations": turns} for number in numbers])


def test_paths_start_at_the_file(tmp_path: Path):
    config = read_mixture_file(
        write(tmp_path, "seed: 3\nsources:\n- {name: a, path: x/a.json, image_root: i.zip, license: MIT}\n")
    )
    assert (config.seed, config.row_order) == (3, "file")
    source = config.sources[0]
    assert (source.path, source.image_root, source.license) == (
        str(tmp_path / "x/a.json"), str(tmp_path / "i.zip"), "MIT",
    )  # fmt: skip


def test_a_list_is_the_sources_and_defaults_fill_what_is_missing(tmp_path: Path):
    text = "- {name: a, path: /data/a.json}\n- {name: b, path: hf://datasets/o/n, image_root: own}\n"
    config = read_mixture_file(write(tmp_path, text), image_root="/images", seed=5)
    assert config.seed == 5
    assert [source.path for source in config.sources] == ["/data/a.json", "hf://datasets/o/n"]
    assert [source.image_root for source in config.sources] == ["/images", str(tmp_path / "own")]


def test_a_llava_next_file_is_read_with_its_strategies(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    for name in ("a.json", "sub/a.json"):
        (tmp_path / name).write_text(records(range(10)))
    text = """
    datasets:
      - json_path: a.json
        sampling_strategy: "first:3"
      - json_path: sub/a.json
        sampling_strategy: "end:25%"
      - json_path: a.json
    """
    dataset, report = build_mixture(read_mixture_file(write(tmp_path, text)))
    assert [source.name for source in report.sources] == ["a", "a_2", "a_3"]
    assert dataset["id"] == ["0", "1", "2", "7", "8", "9", *map(str, range(10))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources: [", "is not YAML"),
        ("sources: {}", "has no list of `sources`"),
        ("", "has no list of `sources`"),
        ("sources: []", "has no source"),
        ("sources: [5]", "a source that is 5"),
        ("seeds: 1\nsources: [{name: a, path: a}]", r"unknown fields \['seeds'\]"),
        ("[{name: a, path: a, image: x}]", r"mixture.yaml': a source has the unknown fields \['image'\]"),
        ("datasets: [{json_path: a, ratio: 1}]", "expected are `json_path`"),
        ("datasets: [{json_path: a.json, sampling_strategy: half}]", "Use all, first:N"),
    ],
)
def test_a_file_that_is_no_mixture_is_refused(tmp_path: Path, text: str, message: str):
    with pytest.raises(ValueError, match=message):
        read_mixture_file(write(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="is neither a file nor a packaged mixture"):
        read_mixture_file(tmp_path / "none.yaml")


def test_relative_paths_of_a_packaged_mixture_start_at_the_data_root(monkeypatch):
    assert read_mixture_file("demo").sources[0].path == "scenes/instructions.json"
    assert read_mixture_file("demo", data_root="data").sources[0].path == "data/scenes/instructions.json"
    monkeypatch.setenv("TRANSFORMERS_LLAVA_DATA", "elsewhere")
    assert read_mixture_file("demo").sources[0].image_root == "elsewhere/scenes"


def test_a_file_goes_before_a_packaged_mixture_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").write_text("[{name: mine, path: a.json}]")
    assert [source.name for source in read_mixture_file("demo").sources] == ["mine"]


def test_an_unknown_name_is_answered_with_the_packaged_ones():
    with pytest.raises(ValueError, match=r"nor a packaged mixture. Packaged are: demo, llava-v1.5-mix665k"):
        read_mixture_file("mix665k")
