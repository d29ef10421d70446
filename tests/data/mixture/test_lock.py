"""Locks: the same content gives the same lock, and a difference is named."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from transformers_llava.data.mixture.config import MixtureConfig, SourceConfig
from transformers_llava.data.mixture.lock import (
    compare_locks,
    count_tokens_of_sources,
    make_lock,
    read_lock,
    write_lock,
)
from transformers_llava.data.mixture.mixture_building import build_mixture
from transformers_llava.data.mixture.subsampling import TokenBudget
from transformers_llava.data.reports import LengthReport


def record(number: int, image: str | None = None) -> dict:
    question = f"<image>\nQ{number}" if image else f"Q{number}"
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "A"}]
    return {"id": str(number), "conversations": turns, **({"image": image} if image else {})}


RECORDS = [record(1, "x.png"), record(2, "y.png"), record(3), {"id": "bad"}]


@pytest.fixture
def folder(tmp_path: Path, png) -> Path:
    (tmp_path / "one").mkdir()
    for name, seed in (("x.png", 1), ("y.png", 2)):
        (tmp_path / "one" / name).write_bytes(png(seed=seed))
    (tmp_path / "one" / "a.json").write_text(json.dumps(RECORDS))
    (tmp_path / "one" / "b.json").write_text(json.dumps([record(4)]))
    return tmp_path / "one"


def with_value(value, *path) -> str:
    """The lock of two sources as JSON, with another value at a place."""
    count = dict.fromkeys(("num_read", "num_kept", "num_used", "num_repeated_ids", "num_images"), 1)
    source = {"digest": "sha256:0", "digest_covers": "messages", "dropped": {}, "filtered": {}, **count}
    lock = {
        "version": 1,
        "seed": 0,
        "row_order": "file",
        "num_used": 2,
        "digest": "x",
        "order_digest": "x",
        "sources": [{"name": "a", **source}, {"name": "b", **source}],
    }
    holder = lock
    for key in path[:-1]:
        holder = holder[key]
    if value is None:
        del holder[path[-1]]
    elif path:
        holder[path[-1]] = value
    return json.dumps(lock)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (with_value(None, "seed"), "`seed` is missing"),
        (with_value("x", "seed"), "`seed` is 'x', and a number is expected"),
        (with_value(True, "seed"), "`seed` is 'True'"),
        (with_value(None, "order_digest"), "`order_digest` is missing"),
        (with_value(5, "sources"), "`sources` is no list"),
        (with_value([], "sources"), "`sources` is no list"),
        (with_value([1, 2], "sources"), "`sources` is no list"),
        (with_value("b", "sources", 0, "name"), "do not have one name each"),
        (with_value([1], "sources", 0, "name"), "do not have one name each"),
        (with_value(None, "sources", 0, "digest_covers"), "source 'a': `digest_covers` is missing"),
        (with_value("many", "sources", 1, "num_used"), "source 'b': `num_used` is 'many'"),
        (with_value(3, "sources", 0, "dropped"), "source 'a': `dropped` is no number by reason"),
        (with_value({"x": "y"}, "sources", 0, "filtered"), "source 'a': `filtered` is no number by reason"),
        (with_value(5, "lengths"), "`lengths` does not have"),
        (with_value({}, "lengths"), "`lengths` does not have"),
        (with_value(True, "version"), "has version True"),
        ("[" * 100_000, "is not JSON"),
        ('{"version": 1, "seed": ' + "[" * 80 + "]" * 80 + "}", "levels deep"),
    ],
)
def test_a_lock_of_another_form_is_refused_with_its_field(tmp_path: Path, text: str, message: str):
    (tmp_path / "mixture.lock.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_lock(tmp_path)


def test_a_whole_lock_is_read(tmp_path: Path):
    (tmp_path / "mixture.lock.json").write_text(with_value(0, "seed"))
    assert compare_locks(read_lock(tmp_path), read_lock(tmp_path)) == []


@pytest.mark.parametrize("recheck", [True, False])
def test_an_image_exchanged_under_the_same_size_and_time_changes_the_lock(folder: Path, recheck: bool):
    """`rsync -a`, `tar` and `cp -p` leave a file with the size and the time of the one before."""
    import os

    from PIL import Image

    image = folder / "x.png"
    Image.new("RGB", (8, 8), "red").save(image, "BMP")
    config = MixtureConfig([SourceConfig("a", str(folder / "a.json"))])
    before, status = make_lock(config, build_mixture(config)[1]), image.stat()
    Image.new("RGB", (8, 8), "blue").save(image, "BMP")
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (image.stat().st_size, image.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    after = make_lock(config, build_mixture(config, recheck_images=recheck)[1])
    assert len(compare_locks(before, after)) == 1
    assert "not what they were" in compare_locks(before, after)[0]


def test_a_check_takes_no_verdict_from_the_cache(folder: Path, monkeypatch: pytest.MonkeyPatch):
    from transformers_llava.data.mixture import image_verification as verification

    config = MixtureConfig([SourceConfig("a", str(folder / "a.json"))])
    seen = []
    monkeypatch.setattr(verification, "_state", lambda path: "the same")  # whatever a file system may hide
    for recheck in (False, False, True):
        (folder / "x.png").write_bytes((folder / "y.png").read_bytes() if seen else (folder / "x.png").read_bytes())
        seen.append(build_mixture(config, recheck_images=recheck)[1].digest)
    assert seen[0] == seen[1] != seen[2]


def lock_of(folder: Path, *, file: str = "a.json", row_order="content", seed: int = 0, **fields) -> dict:
    sources = [SourceConfig("a", str(folder / file), **fields), SourceConfig("b", str(folder / "b.json"))]
    config = MixtureConfig(sources, seed=seed, row_order=row_order)
    return json.loads(json.dumps(make_lock(config, build_mixture(config)[1])))


def test_the_lock_says_what_was_used_and_names_no_path(folder: Path):
    lock = lock_of(folder, license="MIT")
    assert str(folder) not in json.dumps(lock)
    source = lock["sources"][0]
    assert {name: source[name] for name in ("name", "license", "num_read", "num_kept", "num_used", "dropped")} == {
        "name": "a", "license": "MIT", "num_read": 4, "num_kept": 3, "num_used": 3, "dropped": {"invalid_record": 1},
    }  # fmt: skip
    assert (source["proportion"], lock["num_used"]) == (0.75, 4)


def test_the_same_content_elsewhere_in_another_order_and_format_has_the_same_lock(folder: Path, tmp_path: Path):
    expected = lock_of(folder, num_examples=2)
    shutil.copytree(folder, tmp_path / "two")
    shutil.rmtree(folder)
    rows = [RECORDS[1], RECORDS[3], RECORDS[2], RECORDS[0]]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "two" / "a.parquet")
    assert lock_of(tmp_path / "two", file="a.parquet", num_examples=2) == expected


def test_an_equal_mixture_has_no_differences(folder: Path):
    assert compare_locks(lock_of(folder), lock_of(folder)) == []


def test_a_changed_image_is_named_by_its_source(folder: Path, png):
    before = lock_of(folder)
    (folder / "y.png").write_bytes(png(seed=3))
    (difference,) = compare_locks(before, lock_of(folder))
    assert difference.startswith("source 'a': its messages and image bytes are not what they were (")


def test_a_lost_image_is_named_by_reason_and_count(folder: Path):
    before = lock_of(folder)
    (folder / "y.png").unlink()
    differences = compare_locks(before, lock_of(folder))
    assert "source 'a': num_kept was 3 and is 2" in differences
    assert "source 'a': 1 records are dropped as missing_image, not 0" in differences
    assert not any("'b'" in difference for difference in differences)


def test_settings_and_sources_that_changed_are_named(folder: Path):
    before, after = lock_of(folder), lock_of(folder, seed=1, weight=2.0)
    differences = compare_locks(before, after)
    assert "the seed was 0 and is 1" in differences
    assert "source 'a': weight was None and is 2.0" in differences
    del after["sources"][1]
    assert "source 'b' is missing" in compare_locks(before, after)
    assert "source 'b' is new" in compare_locks(after, before)


def test_another_order_of_the_same_rows_is_named(folder: Path):
    before = lock_of(folder, row_order="file")
    (folder / "a.json").write_text(json.dumps(RECORDS[::-1]))
    (difference,) = compare_locks(before, lock_of(folder, row_order="file"))
    assert "the rows stand in another order" in difference


def test_proportions_in_tokens(folder: Path):
    config = MixtureConfig([SourceConfig("a", str(folder / "a.json")), SourceConfig("b", str(folder / "b.json"))])
    dataset, report = build_mixture(config)
    tokens = count_tokens_of_sources(dataset["source"], [10, 20, 30, 40])
    lock = make_lock(config, report, tokens_of_source=tokens)
    assert [(s["num_tokens"], s["proportion_of_tokens"]) for s in lock["sources"]] == [(60, 0.6), (40, 0.4)]


def test_a_lock_is_written_and_read(folder: Path, tmp_path: Path):
    lock = lock_of(folder)
    assert read_lock(write_lock(lock, tmp_path)) == read_lock(tmp_path) == lock


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "no lock at"), ("{", "is not JSON"), ("[]", "has version None"), ('{"version": 9}', "has version 9")],
)
def test_what_is_no_lock_is_refused(tmp_path: Path, text, message):
    if text is not None:
        (tmp_path / "mixture.lock.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_lock(tmp_path)


def test_a_budget_that_nobody_drew_by_is_refused_and_one_that_was_is_recorded(folder: Path):
    config = MixtureConfig([SourceConfig("a", str(folder / "a.json"), num_tokens=100)], seed=3)
    assert config.token_budgets == {"a": TokenBudget(100, 3)}
    report = build_mixture(config)[1]
    with pytest.raises(ValueError, match=r"the sources \['a'\] have a token budget"):
        make_lock(config, report)
    lengths = LengthReport(9, "drop", num_examples=2, beyond_budget=Counter(a=1), rows_digest="x")
    lock = make_lock(config, report, lengths=lengths)
    assert (lock["sources"][0]["num_tokens"], lock["sources"][0]["num_beyond_budget"]) == (100, 1)
    assert lock["lengths"]["num_examples"] == 2
    other = make_lock(config, report, lengths=replace(lengths, num_examples=1, too_long="error"))
    assert compare_locks(lock, other) == [
        "too_long was drop and is error, of the examples as they are trained on",
        "num_examples was 2 and is 1, of the examples as they are trained on",
    ]
    (difference,) = compare_locks(lock, make_lock(config, report, lengths=replace(lengths, rows_digest="y")))
    assert "not the same ones" in difference


def test_filters_are_locked_and_what_passes_them_is_compared(folder: Path):
    before = lock_of(folder, filters={"has_image": True})
    assert before["sources"][0]["filters"] == {"has_image": True}
    assert before["sources"][0]["filtered"] == {"has_image": 1}
    differences = compare_locks(before, lock_of(folder, filters={"has_image": False}))
    assert "source 'a': 2 records do not pass the filter has_image, not 1" in differences


def test_published_parts_are_in_the_lock_for_the_card(folder: Path):
    parts = [{"name": "p", "num_examples": 4, "license": "MIT"}]
    (source, _) = lock_of(folder, parts=parts)["sources"]
    assert source["parts"] == [{"name": "p", "num_examples": 4, "license": "MIT", "provenance": "unknown"}]


def test_tokens_that_only_one_side_has_counted_are_no_difference(tmp_path: Path) -> None:
    """A lock of a training run has tokens; `llava data verify` without a tokenizer counts none."""
    lock = {
        "seed": 0,
        "row_order": "file",
        "order_digest": "x",
        "sources": [{"name": "a", "digest": "d", "digest_covers": "m"}],
    }
    counted = {**lock, "sources": [{**lock["sources"][0], "num_tokens": 9, "proportion_of_tokens": 1.0}]}
    assert compare_locks(counted, lock) == []
    other = {**lock, "sources": [{**counted["sources"][0], "num_tokens": 8}]}
    assert compare_locks(counted, other) == ["source 'a': num_tokens was 9 and is 8"]
