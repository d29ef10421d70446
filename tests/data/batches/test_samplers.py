"""Orders of training: packed steps that do not depend on the world, and the original's grouped batches."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers.trainer_pt_utils import BatchRebalanceSampler

from transformers_llava.data.batches.original_order import OriginalOrder, group_by_length, group_by_modality
from transformers_llava.data.batches.samplers import PackedBatchSampler


LENGTHS = [int(length) for length in torch.randint(5, 90, (50,), generator=torch.Generator().manual_seed(3))]
HAS_IMAGE = [index % 3 > 0 for index in range(50)]


def packed(**kwargs) -> PackedBatchSampler:
    return PackedBatchSampler(LENGTHS, HAS_IMAGE, **{"global_batch_size": 12, "seed": 7, **kwargs})


def steps_of(world_size: int, accumulation_steps: int, epoch: int = 0) -> list[set[int]]:
    """Which examples each optimizer step sees, put together from what every rank is given."""
    ranks = []
    for rank in range(world_size):
        sampler = packed(world_size=world_size, accumulation_steps=accumulation_steps, rank=rank)
        sampler.set_epoch(epoch)
        ranks.append(list(sampler))
    steps = []
    for start in range(0, len(ranks[0]), accumulation_steps):
        seen = [index for batches in ranks for pack in batches[start : start + accumulation_steps] for index in pack]
        assert len(seen) == len(set(seen)) == (12 if len(steps) < 4 else 2)  # 50 are four steps and two examples
        steps.append(set(seen))
    return steps


def test_the_step_an_example_falls_into_does_not_depend_on_the_world():
    reference = steps_of(1, 1)
    assert len(reference) == 5
    assert steps_of(1, 6) == steps_of(2, 3) == steps_of(3, 2) == steps_of(6, 1) == reference


def test_every_epoch_is_another_permutation_that_seed_and_epoch_decide():
    assert steps_of(2, 1, epoch=1) != steps_of(2, 1, epoch=0)
    assert steps_of(2, 1, epoch=1) == steps_of(1, 2, epoch=1)
    assert list(packed()) == list(packed())
    assert list(packed()) != list(packed(seed=8))


def test_no_example_occurs_twice_in_an_epoch():
    seen = [index for batch in packed(accumulation_steps=3) for index in batch]
    assert sorted(seen) == list(range(50))


def test_a_last_step_with_fewer_examples_than_packs_leaves_packs_empty():
    ranks = [list(packed(world_size=3, accumulation_steps=2, rank=rank)) for rank in range(3)]
    assert [[len(pack) for pack in packs[-2:]] for packs in ranks] == [[1, 0], [1, 0], [0, 0]]
    report = packed(world_size=3, accumulation_steps=2).report()
    assert (report.num_examples, report.num_packs) == (50, 26)


def test_rows_are_equally_many_and_of_similar_lengths():
    ranks = [list(packed(world_size=2, accumulation_steps=2, rank=rank, padded=True)) for rank in (0, 1)]
    assert sorted(index for batches in ranks for batch in batches for index in batch) == list(range(50))
    assert [len(batch) for batch in ranks[0]] == [3, 3] * 4 + [1, 0]

    def padding(batches):
        rows = [[LENGTHS[index] for index in batch] for batch in batches if batch]
        return sum(max(row) * len(row) - sum(row) for row in rows)

    unaware = [list(packed(world_size=2, accumulation_steps=2, rank=rank)) for rank in (0, 1)]
    assert sum(map(padding, ranks)) < sum(map(padding, unaware)) / 2


def test_without_shuffling_the_order_is_that_of_the_data():
    assert [sorted(batch) for batch in packed(shuffle=False)] == [
        list(range(start, min(start + 12, 50))) for start in range(0, 50, 12)
    ]


def test_trainer_recognises_the_sampler_as_one_that_yields_batches():
    assert isinstance(packed(), BatchRebalanceSampler)
    assert len(packed(accumulation_steps=3)) == len(list(packed(accumulation_steps=3))) == 15


def test_the_steps_are_those_that_the_ranks_are_given():
    samplers = [packed(world_size=2, accumulation_steps=2, rank=rank, image_cost=50) for rank in (0, 1)]
    given = [list(sampler) for sampler in samplers]
    for number, packs in enumerate(samplers[0].steps()):
        assert packs == given[0][2 * number : 2 * number + 2] + given[1][2 * number : 2 * number + 2]


def test_the_report_of_an_epoch_counts_what_was_planned():
    report = packed(world_size=2, accumulation_steps=2).report(max_length=80)
    used = [index for batch in packed() for index in batch]
    assert (report.num_packs, report.num_examples) == (18, 50)  # the last step has two examples for four packs
    assert report.num_tokens == sum(LENGTHS[index] for index in used)
    assert report.num_over_long == sum(LENGTHS[index] > 80 for index in used)
    assert 1.0 <= report.mean_balance < 1.3 < report.worst_balance <= 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"world_size": 4, "accumulation_steps": 4}, "cannot fill 4 x 4 packs"),
        ({"world_size": 2, "rank": 2}, "rank 2 is not one of 2"),
    ],
)
def test_an_order_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        packed(**arguments)


RECORDED = [
    ("get_modality_length_grouped_indices", group_by_modality),
    ("get_length_grouped_indices", group_by_length),
]


@pytest.mark.parametrize(("function", "rule"), RECORDED)
def test_grouped_orders_equal_the_recorded_ones_of_the_original(golden: Path, function: str, rule: Callable):
    num_checked = 0
    for file in ("sampler.json", "sampler_next.json"):
        for case in json.loads((golden / "utilities" / file).read_text())["cases"]:
            if case["function"] != function or case["indices"] is None:
                continue
            seed = case["generator_seed"]
            generator = None if seed is None else torch.Generator().manual_seed(seed)
            torch.manual_seed(case["global_torch_manual_seed"])
            order = rule(case["lengths"], case["batch_size"], case["world_size"], generator)
            assert order == case["indices"], case["name"]
            num_checked += 1
    assert num_checked > 0


def test_a_batch_holds_one_modality_and_the_rest_comes_last():
    lengths = [7, -7, 8, -8, 9, -9, 3, -3, 4, -4]
    order = group_by_modality(lengths, 2, 1)
    assert sorted(order) == list(range(10))
    batches = [order[start : start + 2] for start in range(0, 8, 2)]
    assert all(lengths[first] * lengths[second] > 0 for first, second in batches)


@pytest.mark.parametrize("order", ["random", "modality_length"])
@pytest.mark.parametrize("num_words", [[7, -7, 8, -8, 9, -9, 3, -3, 4], [1, 2, 3, 4, 5], [-1, -2, -3]])
def test_an_original_order_is_as_long_as_it_says(order: str, num_words: list[int]):
    settings = {"batch_size": 2, "world_size": 1, "accumulation_steps": 2, "rank": 0, "seed": 0}
    sampler = OriginalOrder(num_words, order=order, **settings)
    assert len(list(sampler)) == len(sampler)


def test_a_length_without_a_sign_is_refused():
    settings = {"batch_size": 2, "world_size": 1, "accumulation_steps": 1, "rank": 0, "seed": 0}
    with pytest.raises(ValueError, match="no word, so no length"):
        OriginalOrder([3, 0], order="modality_length", **settings)
