"""Sources: what is kept, what is counted, and that looking again is cheap but never stale."""

import json
import os
import zipfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from transformers_llava.data.mixture import image_verification as verification
from transformers_llava.data.mixture.config import SourceConfig
from transformers_llava.data.mixture.source import load_source
from transformers_llava.data.schema import RecordError


def record(
    number: int, *, image: str | list[str] | None = None, question: str = "", answer: str = "A", **fields
) -> dict:
    text = "<image>\nQ" if image is not None else "Q"
    turns = [{"from": "human", "value": question or text}, {"from": "gpt", "value": answer}]
    return {"id": str(number), "conversations": turns, **({} if image is None else {"image": image}), **fields}


def load(path: Path, **kwargs):
    settings = {name: kwargs.pop(name) for name in ("strict", "num_proc") if name in kwargs}
    return load_source(SourceConfig("s", str(path), **kwargs), **settings)


@pytest.mark.parametrize("name", ["data.json", "data.jsonl"])
def test_rows_are_examples_in_file_order_with_undecoded_images(write_source, png, name):
    path = write_source([record(1, image="i/a.png"), record(2)], {"i/a.png": png()}, name)
    dataset, report = load(path)
    assert dataset["id"] == ["1", "2"]
    assert dataset[0]["images"] == [{"bytes": None, "path": str(path.parent / "i/a.png")}]
    assert dataset[0]["messages"][0]["content"] == [{"type": "image", "text": None}, {"type": "text", "text": "Q"}]
    assert (report.num_read, report.num_kept, report.num_used, report.num_images) == (2, 2, 2, 1)


PLANTED = 3  # of each kind


def plant(png) -> tuple[list, dict[str, bytes], dict[str, int]]:
    """Good records, and three of every kind of bad one between them; the counts that a report must find."""
    jpeg = png(64, 64, format="JPEG")
    files = {"good.png": png(), "cut.jpg": jpeg[: len(jpeg) // 2], "page.jpg": b"<html>", "empty.jpg": b""}
    bad = {
        "missing_image": lambda n: record(n, image="gone.jpg"),
        "truncated_image": lambda n: record(n, image="cut.jpg"),
        "unreadable_image": lambda n: record(n, image=["page.jpg", "empty.jpg", "page.jpg"][n % 3]),
        "image_count_mismatch": lambda n: record(n, image="good.png", question="no marker"),
        "empty_answer": lambda n: record(n, answer=" "),
        "roles_do_not_alternate": lambda n: {"id": n, "conversations": [{"from": "human", "value": "Q"}] * 2},
        "invalid_record": lambda n: [5, {"id": n}, {"id": n, "conversations": {}}][n % 3],
        "invalid_utf8": lambda n: record(n, answer="\udcff"),
        "path_escapes_root": lambda n: record(n, image=["../x.jpg", "/etc/passwd", "a/../../x"][n % 3]),
        "remote_image": lambda n: record(n, image="https://example.org/x.jpg"),
        "no_answer": lambda n: {"id": n, "conversations": [{"from": "human", "value": "Q"}]},
    }
    records = []
    for number in range(PLANTED * len(bad)):
        records.append(record(1000 + number, image="good.png" if number % 2 else None))
        records.append(list(bad.values())[number % len(bad)](number))
    return records, files, dict.fromkeys(bad, PLANTED)


@pytest.mark.parametrize("name", ["data.json", "data.jsonl"])
def test_every_kind_of_bad_record_is_counted_and_nothing_else_is_lost(write_source, png, name):
    records, files, planted = plant(png)
    dataset, report = load(write_source(records, files, name))
    assert dict(report.dropped) == planted
    assert report.num_kept == len(dataset) == len(records) - sum(planted.values())
    assert dataset["id"] == [r["id"] for r in records if isinstance(r, dict) and int(r["id"]) >= 1000]
    assert report.num_read == len(records)
    for reason, examples in report.examples.items():
        assert len(examples) == PLANTED
        assert all(rejection.reason == reason and rejection.record_id.startswith("s/") for rejection in examples)


@pytest.mark.parametrize("kind", range(11))
def test_strict_stops_at_the_first_bad_record_with_its_reason(write_source, png, kind):
    records, files, planted = plant(png)
    reason = list(planted)[kind]
    path = write_source([record(5000), records[2 * kind + 1]], files)
    for _ in range(2):  # the second time after a lenient run has parsed the file
        with pytest.raises(RecordError) as caught:
            load(path, strict=True)
        assert caught.value.reason == reason
        load(path)


def test_a_bad_line_costs_one_record(write_source):
    path = write_source([record(1)], name="data.jsonl")
    path.write_bytes(path.read_bytes() + b'\n{"id": \n"\xff"\n' + json.dumps(record(2)).encode())
    dataset, report = load(path)
    assert dataset["id"] == ["1", "2"]
    assert dict(report.dropped) == {"invalid_json": 1, "invalid_utf8": 1}
    assert report.examples["invalid_json"][0].position == "line 2"


def test_a_broken_array_is_an_error_that_says_where(write_source):
    path = write_source([record(1), record(2)])
    path.write_bytes(path.read_bytes()[:-20])
    for _ in range(2):  # and no half-read file is kept
        with pytest.raises(ValueError, match=r"the file ends inside element 1 .* byte"):
            load(path)


def test_ids_that_occur_twice_are_counted_and_dropped_only_if_asked(write_source):
    path = write_source([record(1), record(2), record(1, answer="B"), record(1)])
    dataset, report = load(path)
    assert (len(dataset), report.num_repeated_ids, dict(report.dropped)) == (4, 2, {})
    dataset, report = load(path, duplicate_ids="drop")
    assert (dataset["id"], report.num_repeated_ids, dict(report.dropped)) == (["1", "2"], 2, {"duplicate_id": 2})
    with pytest.raises(RecordError, match="an earlier record has the same id"):
        load(path, duplicate_ids="drop", strict=True)


def test_a_dropped_leading_answer_is_noted(write_source):
    changed = record(1)
    changed["conversations"].insert(0, {"from": "gpt", "value": "Hello"})
    assert dict(load(write_source([changed, record(2)]))[1].notes) == {"leading_answer_dropped": 1}


def test_each_distinct_image_is_looked_at_once_and_not_again(write_source, png, monkeypatch):
    looked = []
    check = verification.check_image
    monkeypatch.setattr(verification, "check_image", lambda *args: looked.append(args[0]["path"]) or check(*args))
    path = write_source([record(n, image=f"{n % 2}.png") for n in range(6)], {"0.png": png(), "1.png": png(seed=1)})
    load(path)
    assert len(looked) == 2
    load(path)
    assert len(looked) == 2
    os.utime(path.parent / "1.png", ns=(0, 0))
    load(path)
    assert [Path(name).name for name in looked[2:]] == ["1.png"]


def test_an_image_that_goes_bad_or_comes_back_is_noticed(write_source, png):
    path = write_source([record(1, image="a.png"), record(2)], {"a.png": png()})
    assert load(path)[1].num_kept == 2
    (path.parent / "a.png").write_bytes(png()[:300])
    assert dict(load(path)[1].dropped) == {"truncated_image": 1}
    (path.parent / "a.png").unlink()
    assert dict(load(path)[1].dropped) == {"missing_image": 1}
    (path.parent / "a.png").write_bytes(png())
    assert load(path)[1].num_kept == 2


def test_a_changed_file_is_read_again(write_source):
    assert load(write_source([record(1)]))[0]["id"] == ["1"]
    assert load(write_source([record(2)]))[0]["id"] == ["2"]


def test_levels_of_looking_find_what_they_claim(write_source, png):
    files = {"a.png": png(), "cut.jpg": png(200, 200, format="JPEG")[:2000]}
    records = [record(1, image="a.png"), record(2, image="cut.jpg"), record(3, image="gone.png")]
    path = write_source(records, files)
    found = {level: dict(load(path, verify_images=level)[1].dropped) for level in ("decode", "header", "none")}
    assert found == {
        "decode": {"truncated_image": 1, "missing_image": 1},
        "header": {"missing_image": 1},
        "none": {"missing_image": 1},
    }
    assert load(path, verify_images="none")[1].digest_covers == "messages"


def test_the_number_of_workers_changes_nothing(write_source, png):
    path = write_source(
        [record(n, image=f"{n}.png") for n in range(8)],
        {f"{n}.png": png(seed=n)[: None if n % 3 else 200] for n in range(8)},
    )
    one = load(path, num_proc=1)
    for file in path.parent.glob("cache/*/verdicts.*"):
        file.unlink()
    four = load(path, num_proc=4)
    assert one[1] == four[1]
    assert one[0]["id"] == four[0]["id"] == ["1", "2", "4", "5", "7"]


def test_images_come_out_of_a_zip_and_out_of_parquet_rows(write_source, png, tmp_path):
    path = write_source([record(1, image="a.png"), record(2, image="gone.png")])
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("a.png", png())
    dataset, report = load(path, image_root=str(tmp_path / "images.zip"))
    assert (dataset["id"], dict(report.dropped)) == (["1"], {"missing_image": 1})

    rows = [
        {**record(n, image="x"), "image": {"bytes": data, "path": "x"}} for n, data in enumerate([png(), png()[:200]])
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    dataset, parquet_report = load(tmp_path / "a.parquet")
    assert dataset[0]["images"] == [{"bytes": png(), "path": None}]
    assert dict(parquet_report.dropped) == {"truncated_image": 1}
    assert parquet_report.digest == report.digest


def test_a_folder_of_a_data_set_is_read_with_its_images_undecoded(write_source, png, tmp_path):
    from datasets import Dataset, Features, Image, List, Value

    features = Features(
        {"messages": List({"role": Value("string"), "content": Value("string")}), "images": List(Image())}
    )
    messages = [{"role": "user", "content": "<image> Q"}, {"role": "assistant", "content": "A"}]
    table = Dataset.from_list([{"messages": messages, "images": [{"bytes": png()[:300], "path": None}]}] * 2, features)
    table.save_to_disk(tmp_path / "saved")
    (tmp_path / "parquet").mkdir()
    table.to_parquet(tmp_path / "parquet" / "train.parquet")
    for folder in ("saved", "parquet"):
        assert dict(load(tmp_path / folder)[1].dropped) == {"truncated_image": 2}


def test_a_hub_data_set_needs_a_commit():
    with pytest.raises(ValueError, match="set `revision` to the 40 digits of a commit"):
        load_source(SourceConfig("s", "hf://datasets/owner/name", revision="main"))


def test_a_hub_data_set_is_asked_for_at_its_commit(monkeypatch, png):
    import datasets

    asked = {}

    def load_dataset(*args, **kwargs):
        asked.update(args=args, **kwargs)
        return datasets.Dataset.from_list([record(7)])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    dataset, _ = load_source(SourceConfig("s", "hf://datasets/owner/name/config", revision="a" * 40, split="test"))
    assert asked == {"args": ("owner/name", "config"), "split": "test", "revision": "a" * 40, "streaming": False}
    assert dataset["id"] == ["7"]


def test_a_draw_depends_on_its_seed_only(write_source):
    path = write_source([record(n) for n in range(20)])
    dataset, report = load(path, num_examples=5)
    assert (len(dataset), report.num_kept, report.num_used) == (5, 20, 5)
    assert dataset["id"] == sorted(set(dataset["id"]), key=int)
    assert dataset["id"] == load(path, num_examples=5)[0]["id"] == load(path, num_examples=5, seed=0)[0]["id"]
    assert dataset["id"] != load(path, num_examples=5, seed=1)[0]["id"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_examples": 0}, "use at least 1"),
        ({"num_examples": 1, "weight": 2.0}, "has num_examples and weight. Say only once"),
        ({"weight": -1.0}, "A weight is a positive number"),
        ({"sampling": "some:3"}, "Use all, first:N, end:N or random:N"),
        ({"sampling": "first:1.5"}, "Use all, first:N, end:N or random:N"),
        ({"verify_images": "glance"}, "verify_images must be"),
        ({"duplicate_ids": "merge"}, "Use 'keep' or 'drop'"),
        ({"path": ""}, "needs a name and a path"),
        ({"image_folder": "x"}, r"unknown fields \['image_folder'\]"),
    ],
)
def test_a_source_that_makes_no_sense_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SourceConfig.from_dict({"name": "s", "path": "data.json", **fields})


def test_an_image_root_that_does_not_exist_is_refused(write_source, tmp_path):
    for root in ("nowhere", "nowhere.zip"):
        with pytest.raises(ValueError, match="which does not exist"):
            load(write_source([record(1)]), image_root=str(tmp_path / root))
