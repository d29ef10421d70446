"""The original's order without its data: numbers recorded from its runs, several ranks, what counts as a word."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from transformers_llava.data.batches.original_order import OriginalOrder, count_words
from transformers_llava.data.mixture.config import MixtureConfig, SourceConfig
from transformers_llava.data.mixture.mixture_building import build_mixture
from transformers_llava.training.recipe.recipe_error import RecipeError


WORDS = [15, 18, 29, -8, -21, 245, 16, 13, 13, 13, 1]  # of the recorded run's eleven samples


def order(num_words: list[int] = WORDS, **kwargs) -> OriginalOrder:
    settings = {"order": "random", "batch_size": 2, "world_size": 1, "accumulation_steps": 1, "rank": 0, "seed": 11}
    return OriginalOrder(num_words, **{**settings, **kwargs})


def test_a_random_order_is_the_recorded_one() -> None:
    assert list(order([1] * 4)) == [[0, 3], [2, 1]]
    assert list(order()) == [[7, 4], [6, 1], [9, 0], [3, 10], [8, 2], [5]]


def test_an_order_by_modality_and_length_is_the_recorded_one() -> None:
    assert list(order(order="modality_length")) == [[6, 8], [9, 10], [2, 1], [0, 7], [3, 4], [5]]


def test_later_epochs_go_on_with_the_same_random_numbers() -> None:
    sampler = order()
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_ranks_take_batches_in_turn_and_a_last_round_is_filled_from_the_beginning() -> None:
    ranks = [list(order(world_size=2, rank=rank)) for rank in (0, 1)]
    assert ranks == [[[7, 4], [9, 0], [8, 2]], [[6, 1], [3, 10], [5, 7]]]


def test_micro_batches_that_fill_no_step_are_left_out() -> None:
    sampler = order(accumulation_steps=4)
    assert (len(sampler), sampler.num_global_batches) == (4, 1)
    assert len(list(order([1] * 3, accumulation_steps=4))) == 2  # fewer than one step: one step of what is there


def test_words_are_those_of_the_file_also_where_a_turn_was_dropped(tmp_path: Path) -> None:
    def turns(*values: str) -> list[dict[str, str]]:
        return [{"from": "gpt" if n % 2 else "human", "value": value} for n, value in enumerate(values)]

    started_by_gpt = [{"from": "gpt", "value": "nobody asked me"}, *turns("a b", "c")]
    records = [
        {"id": "x", "conversations": turns("a  b", "")},  # left out: no answer
        {"id": "x", "conversations": turns("one two three", "four")},
        {"id": "y", "conversations": started_by_gpt},
    ]
    (tmp_path / "d.json").write_text(json.dumps(records))
    config = MixtureConfig([SourceConfig("s", str(tmp_path / "d.json"))])
    dataset, _ = build_mixture(config)
    assert dataset["id"] == ["x", "y"]
    assert count_words(config, dataset) == [-4, -6]


def test_a_record_of_another_format_or_order_changes_no_other_count(tmp_path: Path) -> None:
    """Records of chat messages between LLaVA's, a source taken twice, rows in the order of their content."""

    def turns(words: int) -> list[dict[str, str]]:
        started_by_gpt = {"from": "gpt", "value": "nobody asked me"}
        return [started_by_gpt, {"from": "human", "value": "q " * words}, {"from": "gpt", "value": "a"}]

    chat = [{"role": "user", "content": "one two"}, {"role": "assistant", "content": "three"}]
    records: list[dict] = [{"id": str(n), "conversations": turns(n)} for n in range(1, 7)]
    records.insert(2, {"id": "chat", "messages": chat})
    (tmp_path / "d.json").write_text(json.dumps(records))
    source = SourceConfig("s", str(tmp_path / "d.json"), weight=2.0)
    dataset, _ = build_mixture(MixtureConfig([source], row_order="content"))
    assert len(dataset) == 14
    counts = dict(zip(dataset["id"], count_words(MixtureConfig([source], row_order="content"), dataset), strict=True))
    assert counts == {"chat": -3, **{str(n): -n - 4 for n in range(1, 7)}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"replicate": "alphabetical"}, "is no order of the original"),
        ({"replicate": "random", "packed": True}, "repeats the original's padded batches"),
    ],
)
def test_what_cannot_be_replicated_is_refused(run: Callable, changes: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        run(**changes)
