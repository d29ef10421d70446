"""What holds of random mixtures: an epoch is a permutation, a lock is the content, every defect is counted."""

import io
import json
import os
import random
import shutil
import zlib
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

import tiny
from transformers_llava.data.batches.samplers import PackedBatchSampler
from transformers_llava.data.mixture.config import MixtureConfig, SourceConfig
from transformers_llava.data.mixture.lock import compare_locks, make_lock
from transformers_llava.data.mixture.mixture_building import build_mixture
from transformers_llava.data.tokens.length_filter import measure_examples


SEEDS = range(12)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_index_occurs_once_per_epoch_and_its_step_does_not_depend_on_the_world(seed: int):
    chance = random.Random(seed)
    num_examples, batch = chance.randint(70, 400), chance.choice([12, 24, 36])
    lengths = [int(chance.lognormvariate(5, 1)) + 1 for _ in range(num_examples)]
    has_image = [chance.random() < chance.choice([0.0, 0.5, 0.95]) for _ in range(num_examples)]
    epoch, image_cost = chance.randint(0, 3), chance.choice([0, 400])
    reference = None
    for world_size, accumulation_steps in [(1, 1), (2, 3), (3, 4), (12, 1), (1, 12)]:
        ranks = []
        for rank in range(world_size):
            sampler = PackedBatchSampler(
                lengths,
                has_image,
                global_batch_size=batch,
                world_size=world_size,
                accumulation_steps=accumulation_steps,
                rank=rank,
                seed=seed,
                image_cost=image_cost,
            )
            sampler.set_epoch(epoch)
            ranks.append(list(sampler))
        step_of = {
            index: place // accumulation_steps for packs in ranks for place, pack in enumerate(packs) for index in pack
        }
        assert sum(len(pack) for packs in ranks for pack in packs) == len(step_of) == num_examples
        assert reference in (None, step_of)
        reference = step_of


def random_mixture(folder: Path, seed: int) -> None:
    """Sources a, b and c with 5 to 25 records each on shared images, some broken."""
    chance = random.Random(seed)
    for number in range(6):
        tiny.make_image(seed=number).save(folder / f"{number}.png")
    for name in "abc":
        records = []
        for number in range(chance.randint(5, 25)):
            image = f"{chance.randint(0, 6)}.png" if chance.random() < 0.7 else None  # 6.png is missing
            question = f"{'<image>' if image else ''}\n{name} {number} {chance.random()}"
            turns = [{"from": "human", "value": question}, {"from": "gpt", "value": chance.choice(["x", "y", ""])}]
            records.append({"id": str(number), "conversations": turns, **({"image": image} if image else {})})
        records[0] = {"id": "0", "image": "0.png", "conversations": [
            {"from": "human", "value": f"<image>\n{name}"}, {"from": "gpt", "value": "x"}
        ]}  # fmt: skip
        (folder / f"{name}.json").write_text(json.dumps(records))


def lock_of(folder: Path, suffix: str = ".json", num_proc: int = 1) -> dict:
    amounts = {"a": {"num_examples": 4}, "b": {"weight": 1.5}, "c": {}}
    sources = [SourceConfig(name, str(folder / (name + suffix)), **amount) for name, amount in amounts.items()]
    config = MixtureConfig(sources, seed=5, row_order="content")
    return make_lock(config, build_mixture(config, num_proc=num_proc)[1])


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_the_lock_is_that_of_the_content(seed: int, tmp_path: Path):
    one, two = tmp_path / "one", tmp_path / "elsewhere" / "two"
    one.mkdir()
    random_mixture(one, seed)
    expected = lock_of(one)
    shutil.copytree(one, two)
    chance = random.Random(seed)
    for name in "abc":
        records = json.loads((two / f"{name}.json").read_text())
        chance.shuffle(records)
        rows = [{"image": None, **record} for record in records]  # the first row names the columns
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), two / f"{name}.parquet")
        (two / f"{name}.json").unlink()
    for file in two.iterdir():
        os.utime(file, (seed, seed))
    assert lock_of(two, ".parquet", num_proc=3) == expected
    assert compare_locks(expected, lock_of(two, ".parquet")) == []


def test_one_changed_byte_of_one_image_is_named_by_its_sources_and_no_other(tmp_path: Path):
    random_mixture(tmp_path, 0)
    (tmp_path / "only_b.png").write_bytes((tmp_path / "0.png").read_bytes())
    records = json.loads((tmp_path / "b.json").read_text())
    records[0]["image"] = "only_b.png"
    (tmp_path / "b.json").write_text(json.dumps(records))
    before = lock_of(tmp_path)
    data = bytearray((tmp_path / "only_b.png").read_bytes())
    end = data.index(b"IEND") - 4
    # A chunk of four bytes, then another with one of them changed: both are good images of the same pixels.
    for payload in (b"AAAA", b"AAAB"):
        chunk = b"teXt" + payload
        chunk = len(payload).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
        (tmp_path / "only_b.png").write_bytes(bytes(data[:end]) + chunk + bytes(data[end:]))
        after = lock_of(tmp_path)
        changed = [b["name"] for b, a in zip(before["sources"], after["sources"]) if a["digest"] != b["digest"]]
        assert changed == ["b"]
        (difference,) = compare_locks(before, after)
        assert difference.startswith("source 'b': its messages and image bytes are not what they were (")
        before = after


def plant(folder: Path) -> tuple[dict[str, int], set[str]]:
    """A source of 1,000 records: 10 of each of nine kinds of defect among good ones. Returns counts and good ids."""
    for number in range(10):
        tiny.make_image(seed=number).save(folder / f"{number}.png")
    stream = io.BytesIO()
    tiny.make_image(64, 64).save(stream, "JPEG")
    (folder / "cut.jpg").write_bytes(stream.getvalue()[: len(stream.getvalue()) // 2])
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
    (folder.parent / "secret.png").write_bytes((folder / "0.png").read_bytes())
    human, gpt = {"from": "human", "value": "<image>\nQ"}, {"from": "gpt", "value": "A"}
    defects = {
        "missing_image": {"image": "gone.png"},
        "truncated_image": {"image": "cut.jpg"},
        "decompression_bomb": {"image": "bomb.png"},
        "image_count_mismatch": {"conversations": [{"from": "human", "value": "<image><image>\nQ"}, gpt]},
        "empty_answer": {"conversations": [human, {"from": "gpt", "value": " "}]},
        "roles_do_not_alternate": {"conversations": [human, {"from": "human", "value": "Q"}, gpt]},
        "invalid_utf8": {"conversations": [human, {"from": "gpt", "value": "BROKEN"}]},
        "duplicate_id": {"id": "good 0"},
        "path_escapes_root": {"image": "../secret.png"},
    }
    records = [{"id": f"good {n}", "image": f"{n % 10}.png", "conversations": [human, gpt]} for n in range(910)]
    planted = [
        {"id": f"{reason} {n}", "image": "0.png", "conversations": [human, gpt], **fields}
        for reason, fields in defects.items()
        for n in range(10)
    ]
    tail = records[1:] + planted
    random.Random(0).shuffle(tail)  # "good 0" stays first, so that the others of its id are the repeated ones
    lines = [json.dumps(record).encode() for record in [records[0], *tail]]
    (folder / "all.jsonl").write_bytes(b"\n".join(line.replace(b"BROKEN", b"\xff\xfe") for line in lines))
    return dict.fromkeys(defects, 10), {record["id"] for record in records}


def test_one_percent_of_each_defect_is_counted_and_nothing_else_is_lost(tmp_path: Path, tiny_processor):
    folder = tmp_path / "root"
    folder.mkdir()
    planted, good = plant(folder)
    source = SourceConfig("s", str(folder / "all.jsonl"), duplicate_ids="drop")
    dataset, report = build_mixture(MixtureConfig([source]), num_proc=2)
    assert dict(report.dropped) == planted
    assert report.sources[0].num_read == 1000
    assert set(dataset["id"]) == good
    assert len(dataset) == 910
    measured = measure_examples(dataset, tiny_processor)
    assert not measured.report.dropped
    sampler = PackedBatchSampler(*zip(*measured.lengths), global_batch_size=91, world_size=2)
    assert sum(len(pack) for step in sampler.steps() for pack in step) == 910
