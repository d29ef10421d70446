"""A stream holds every record once a pass, in steps that depend on nothing but files, seed, batch and window."""

import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

import tiny
from transformers_llava.data.batches.collators import PackedCollator, PaddedCollator
from transformers_llava.data.batches.streaming import StreamedMixture, StreamedPacks
from transformers_llava.data.mixture.config import MixtureConfig, SourceConfig
from transformers_llava.data.schema import RecordError
from transformers_llava.data.tokens.counting import TokenCounter
from transformers_llava.data.tokens.policy import EncodingPolicy


def record(number: int, answer: str = "red", **changes) -> dict:
    turns = [{"from": "human", "value": f"What is {number}?"}, {"from": "gpt", "value": answer}]
    return {"id": str(number), "conversations": turns, **changes}


@pytest.fixture
def sources(tmp_path: Path) -> list[SourceConfig]:
    """50 and 11 records, every third of the first with an image."""
    tiny.make_image().save(tmp_path / "x.png")
    long = [record(n, "blue " * (1 + n % 7), **({"image": "x.png"} if n % 3 == 0 else {})) for n in range(50)]
    for entry in long[::3]:
        entry["conversations"][0]["value"] = "<image>\n" + entry["conversations"][0]["value"]
    (tmp_path / "a.json").write_text(json.dumps(long))
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps(record(n)) for n in range(11)))
    return [SourceConfig("a", str(tmp_path / "a.json")), SourceConfig("b", str(tmp_path / "b.jsonl"))]


@pytest.fixture
def mixture(sources, tiny_processor) -> StreamedMixture:
    return StreamedMixture(
        MixtureConfig(sources, seed=5), TokenCounter(tiny_processor, EncodingPolicy(60), look_at_images=False)
    )


def names(examples) -> list[str]:
    return [f"{example['source']}/{example['id']}" for example in examples]


def steps_of(mixture, num_steps: int, world_size: int = 1, accumulation_steps: int = 1, first_step: int = 0, **kwargs):
    """The names of the records of each step, put together from what every rank is given."""
    ranks = []
    for rank in range(world_size):
        packs = StreamedPacks(
            mixture,
            pytest.fail,
            global_batch_size=8,
            world_size=world_size,
            accumulation_steps=accumulation_steps,
            rank=rank,
            **{"window_steps": 2, **kwargs},
        )
        packs.first_step = first_step
        ranks.append(list(islice(packs, num_steps * accumulation_steps)))
    return [
        sorted(
            name
            for packs in ranks
            for pack in packs[step * accumulation_steps : (step + 1) * accumulation_steps]
            for name in names(pack)
        )
        for step in range(num_steps)
    ]


def test_a_pass_holds_every_record_once_and_the_last_step_what_is_left(mixture):
    steps = steps_of(mixture, 16)
    first, second = steps[:8], steps[8:]
    assert [len(step) for step in first] == [len(step) for step in second] == [8] * 7 + [5]
    everything = sorted([f"a/{n}" for n in range(50)] + [f"b/{n}" for n in range(11)])
    assert sorted(name for step in first for name in step) == everything
    assert sorted(name for step in second for name in step) == everything
    assert first != second


def test_the_step_a_record_falls_into_does_not_depend_on_the_world(mixture):
    reference = steps_of(mixture, 16)
    assert steps_of(mixture, 16, 2, 3) == steps_of(mixture, 16, 6, 1) == steps_of(mixture, 16, 1, 8) == reference


def test_a_window_of_one_step_follows_the_files_and_a_wider_one_mixes_them(mixture):
    order = names(item.example for item in mixture.read(0, pytest.fail))
    assert [name for name in order if name.startswith("a/")] == [f"a/{n}" for n in range(50)]
    assert order.index("b/0") < 20 < 40 < order.index("b/10")  # the small source is spread over the large one
    assert steps_of(mixture, 1, window_steps=1)[0] == sorted(order[:8])
    assert steps_of(mixture, 1, window_steps=8)[0] != sorted(order[:8])


def test_a_later_start_goes_on_with_the_same_steps(mixture):
    assert steps_of(mixture, 6, first_step=5) == steps_of(mixture, 11)[5:]


def test_fewer_records_than_packs_leave_packs_empty(mixture):
    packs = StreamedPacks(mixture, pytest.fail, global_batch_size=8, accumulation_steps=8, window_steps=2)
    assert [len(pack) for pack in islice(packs, 56, 64)] == [1, 1, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_workers_change_no_order(mixture, num_workers):
    packs = StreamedPacks(mixture, pytest.fail, global_batch_size=8, accumulation_steps=3, window_steps=2)
    loader = DataLoader(packs, batch_size=None, collate_fn=names, num_workers=num_workers)
    reference = [names(pack) for pack in islice(packs, 25)]
    assert list(islice(loader, 25)) == reference


def test_what_is_left_out_is_named_by_rank_0_alone(sources, tiny_processor, tmp_path):
    with Path(sources[1].path).open("a") as file:
        file.write("\n{broken\n" + json.dumps(record(98, "")) + "\n" + json.dumps(record(99)))
    mixture = StreamedMixture(MixtureConfig(sources), TokenCounter(tiny_processor, look_at_images=False))
    for rank, expected in ((0, {"invalid_json": 1, "empty_answer": 1}), (1, {})):
        rejected: list[RecordError] = []
        packs = StreamedPacks(mixture, rejected.append, global_batch_size=62, world_size=2, rank=rank)
        pack = next(iter(packs))
        assert Counter(error.reason for error in rejected) == expected
        assert 0 < len(pack) < 62
    strict = StreamedMixture(MixtureConfig(sources), mixture.counter, strict=True)
    with pytest.raises(RecordError, match="is not JSON"):
        list(strict.read(0, pytest.fail))


def test_no_image_is_opened_until_it_is_trained_on(mixture, tmp_path):
    (tmp_path / "x.png").write_bytes(b"no image")
    assert len(list(mixture.read(0, pytest.fail))) == 61


@pytest.mark.parametrize(("collator", "pixels_of_text"), [(PackedCollator, True), (PaddedCollator, False)])
def test_a_broken_image_costs_its_record_alone(mixture, tiny_processor, tmp_path, collator, pixels_of_text):
    (tmp_path / "x.png").write_bytes(b"no image")
    examples = [item.example for item in islice(mixture.read(0, pytest.fail), 6)]
    with_image = [example for example in examples if example["images"]]
    text_alone = [example for example in examples if not example["images"]]
    rejected: list[RecordError] = []
    collate = collator(tiny_processor, on_error=rejected.append)
    batch = collate(examples)
    assert [error.record_id for error in rejected] == names(with_image)
    assert batch["labels"].tolist() == collate(text_alone)["labels"].tolist()
    assert ("pixel_values" in batch) == pixels_of_text
    nothing = collate(with_image)
    assert (nothing["labels"] == -100).all()
    assert nothing["pixel_values"].shape[0] == 1
    with pytest.raises(RecordError, match="not in a format"):
        collator(tiny_processor)(examples)


@pytest.mark.parametrize(
    "change",
    [{"num_examples": 3}, {"weight": 2.0}, {"num_tokens": 9}, {"sampling": "first:3"}, {"duplicate_ids": "drop"}],
)
def test_what_needs_all_records_at_once_is_refused(sources, mixture, change):
    source = SourceConfig("c", sources[0].path, **change)
    with pytest.raises(ValueError, match=f"'c' asks for {next(iter(change))}"):
        StreamedMixture(MixtureConfig([source]), mixture.counter)


def test_a_stream_without_one_usable_record_ends_in_an_error(tmp_path, mixture):
    (tmp_path / "c.json").write_text(json.dumps([record(1, "")]))
    empty = StreamedMixture(MixtureConfig([SourceConfig("c", str(tmp_path / "c.json"))]), mixture.counter)
    with pytest.raises(ValueError, match="not a single record"):
        next(iter(StreamedPacks(empty, lambda error: None, global_batch_size=1)))


def test_a_folder_of_parquet_is_streamed(sources, mixture, tmp_path):
    import datasets

    rows = [record(n) for n in range(30)]
    (tmp_path / "table").mkdir()
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "table" / "train-0.parquet")
    stream = StreamedMixture(MixtureConfig([SourceConfig("t", str(tmp_path / "table"))]), mixture.counter)
    assert names(item.example for item in stream.read(0, pytest.fail)) == [f"t/{n}" for n in range(30)]
