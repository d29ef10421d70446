"""Mixtures: proportions, digests that follow the content and nothing else, tables for people."""

import json
import os
import shutil
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from transformers_llava.data.mixture.config import MixtureConfig, SourceConfig
from transformers_llava.data.mixture.mixture_building import build_mixture
from transformers_llava.data.schema import RecordError


def record(number: int, image: str | None = None) -> dict:
    question = f"<image>\nQ{number}" if image else f"Q{number}"
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "A"}]
    return {"id": str(number), "conversations": turns, **({"image": image} if image else {})}


@pytest.fixture
def folder(tmp_path: Path, png) -> Path:
    """Two sources: `a` with three records on two images, `b` with two of text."""
    folder = tmp_path / "one"
    folder.mkdir()
    for name, seed in (("x.png", 1), ("y.png", 2)):
        (folder / name).write_bytes(png(seed=seed))
    (folder / "a.json").write_text(json.dumps([record(1, "x.png"), record(2, "y.png"), record(3, "x.png")]))
    (folder / "b.jsonl").write_text("\n".join(json.dumps(record(n)) for n in (4, 5)))
    return folder


def mixture(folder: Path, **kwargs) -> MixtureConfig:
    sources = [SourceConfig("a", str(folder / "a.json")), SourceConfig("b", str(folder / "b.jsonl"))]
    return MixtureConfig(sources, **kwargs)


def digests(folder: Path, **kwargs) -> dict:
    _, report = build_mixture(mixture(folder, **kwargs))
    return {"all": report.digest, "order": report.order_digest, **{s.name: s.digest for s in report.sources}}


def test_the_mixture_is_its_sources_one_after_another(folder: Path):
    dataset, report = build_mixture(mixture(folder))
    assert dataset["id"] == ["1", "2", "3", "4", "5"]
    assert dataset["source"] == ["a", "a", "a", "b", "b"]
    assert [report.proportion(source) for source in report.sources] == [0.6, 0.4]
    assert (report.num_used, report.num_dropped) == (5, 0)


def test_digests_do_not_depend_on_folder_or_time(folder: Path, tmp_path: Path):
    expected = digests(folder)
    shutil.copytree(folder, tmp_path / "two")
    for file in (tmp_path / "two").iterdir():
        os.utime(file, ns=(0, 0))
    assert digests(tmp_path / "two") == expected


def test_content_digests_do_not_depend_on_order_format_or_names_of_files(folder: Path, tmp_path: Path):
    expected = digests(folder)
    by_content = digests(folder, row_order="content")
    (folder / "z.png").write_bytes((folder / "x.png").read_bytes())
    rows = [record(3, "z.png"), record(2, "y.png"), record(1, "x.png")]
    (folder / "a.json").unlink()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "a.parquet")
    changed = mixture(folder)
    changed.sources[0].path = str(folder / "a.parquet")
    _, report = build_mixture(changed)
    assert report.digest == expected["all"]
    assert report.order_digest != expected["order"]  # the file order did change
    changed.row_order = "content"
    assert build_mixture(changed)[1].order_digest == by_content["order"]


def test_one_changed_byte_of_one_image_changes_exactly_its_source(folder: Path, png):
    expected = digests(folder)
    data = bytearray(png(seed=2))
    end = data.index(b"IEND") - 4
    (folder / "y.png").write_bytes(bytes(data[:end]) + b"\0\0\0\x00tEXt" + b"\xbfX\x8a\x9a" + bytes(data[end:]))
    changed = digests(folder)
    assert changed["b"] == expected["b"]
    assert {name for name in expected if changed[name] != expected[name]} == {"a", "all", "order"}


def test_one_changed_word_changes_its_source(folder: Path):
    expected = digests(folder)
    (folder / "b.jsonl").write_text("\n".join(json.dumps(record(n)) for n in (4, 6)))
    changed = digests(folder)
    assert changed["a"] == expected["a"]
    assert changed["b"] != expected["b"]


def test_ids_are_no_content(folder: Path):
    expected = digests(folder)
    (folder / "b.jsonl").write_text("\n".join(json.dumps({**record(n), "id": "other"}) for n in (4, 5)))
    assert digests(folder) == expected


def test_a_draw_follows_the_seed_of_the_mixture_unless_the_source_has_its_own(folder: Path):
    records = [json.dumps(record(n)) for n in range(40)]
    (folder / "b.jsonl").write_text("\n".join(records))

    def drawn(seed: int, source_seed: int | None = None) -> list[str]:
        source = SourceConfig("b", str(folder / "b.jsonl"), num_examples=10, seed=source_seed)
        return build_mixture(MixtureConfig([source], seed=seed))[0]["id"]

    assert drawn(1) == drawn(1) != drawn(2)
    assert drawn(1, source_seed=7) == drawn(2, source_seed=7)


def test_the_report_is_plain_json_and_a_table(folder: Path):
    (folder / "y.png").unlink()
    sources = mixture(folder)
    sources.sources[1].license = "CC BY | 4.0"
    _, report = build_mixture(sources)
    values = json.loads(json.dumps(report.to_dict()))
    assert values["dropped"] == {"missing_image": 1}
    assert values["sources"][0]["examples"]["missing_image"][0]["record_id"] == "a/2"
    assert report.to_markdown() == (
        "| source | read | kept | used | proportion | images | license |\n"
        "|---|---:|---:|---:|---:|---:|---|\n"
        "| a | 3 | 2 | 2 | 50.0% | 2 | not stated |\n"
        "| b | 2 | 2 | 2 | 50.0% | 0 | CC BY \\| 4.0 |\n"
        "\nLeft out:\n\n"
        "| source | reason | records | for example |\n"
        "|---|---|---:|---|\n"
        "| a | missing_image | 1 | a/2 |\n"
    )


def test_strict_raises_the_first_bad_record(folder: Path):
    (folder / "y.png").unlink()
    with pytest.raises(RecordError, match=r"record 'a/2': the image '.*y\.png' cannot be opened \("):
        build_mixture(mixture(folder), strict=True)


def test_a_source_without_a_usable_record_is_reported_and_a_mixture_without_one_refused(folder: Path):
    (folder / "b.jsonl").write_text("{}\n")
    dataset, report = build_mixture(mixture(folder))
    assert (len(dataset), report.sources[1].num_used) == (3, 0)
    with pytest.raises(ValueError, match=r"no record of the mixture is usable \(1 dropped: .*'b/line 1'"):
        build_mixture(MixtureConfig([SourceConfig("b", str(folder / "b.jsonl"))]))


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "has no source"),
        ([{"name": "a", "path": "x"}, {"name": "a", "path": "y"}], r"names \['a'\] more than once"),
        ([{"name": "a"}], "needs a name and a path"),
    ],
)
def test_a_mixture_that_makes_no_sense_is_refused(sources, message):
    with pytest.raises(ValueError, match=message):
        MixtureConfig(sources)
