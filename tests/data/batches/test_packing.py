"""Packs of one optimizer step: nothing lost, nothing twice, equal in cost, each opened by an image."""

import random

import pytest

from transformers_llava.data.batches.packing import PackingReport, deal_packs, plan_step


def test_the_example_of_the_docstring():
    assert plan_step([5, 4, 3, 2, 1], [False, False, True, False, True], 2) == [[4, 0, 3], [2, 1]]


def test_an_image_opens_each_pack_and_costs_more_than_its_tokens():
    # 3 + 10 and 2 + 10 open; the texts 6, 5 fill the lighter one first: 12 + 6, 13 + 5.
    assert plan_step([3, 2, 6, 5], [True, True, False, False], 2, image_cost=10) == [[0, 3], [1, 2]]


def test_packs_exchange_examples_until_they_are_equal():
    # Dealing alone gives 8 + 5 + 4 = 17 and 7 + 6 = 13 + 1; the 8 for a 7 and a 5 for a 6 make them equal.
    packs = plan_step([8, 7, 6, 5, 4, 2], [True, True, False, False, False, False], 2)
    assert [sum([8, 7, 6, 5, 4, 2][i] for i in pack) for pack in packs] == [16, 16]


def test_where_images_run_out_a_text_opens_the_pack():
    assert plan_step([1, 2, 9], [True, False, False], 3) == [[2], [1], [0]]


def test_the_plan_does_not_depend_on_the_order_of_equal_costs():
    assert plan_step([4, 4, 4, 4], [True] * 4, 2) == [[0, 2], [1, 3]]


@pytest.mark.parametrize("seed", range(30))
def test_every_index_once_no_pack_empty_images_first_and_balance_within_the_bound(seed: int):
    rng = random.Random(seed)
    num_examples = rng.randint(1, 200)
    num_packs = rng.randint(1, num_examples)
    lengths = [rng.choice([rng.randint(1, 100), rng.randint(600, 2048)]) for _ in range(num_examples)]
    has_image = [rng.random() < rng.choice([0.0, 0.1, 0.9]) for _ in range(num_examples)]
    image_cost = rng.choice([0, 300])
    packs = plan_step(lengths, has_image, num_packs, image_cost=image_cost)

    assert sorted(index for pack in packs for index in pack) == list(range(num_examples))
    assert len(packs) == num_packs
    assert all(packs)
    assert sum(has_image[pack[0]] for pack in packs) == min(num_packs, sum(has_image))
    costs = [sum(lengths[i] + image_cost * has_image[i] for i in pack) for pack in packs]
    assert costs == sorted(costs, reverse=True)
    if len(packs[0]) > 1:
        assert costs[0] - costs[-1] <= max(length + image_cost for length in lengths)


def test_packs_of_a_llava_step_are_balanced_within_three_percent():
    rng = random.Random(0)
    balances = []
    for _ in range(40):
        has_image = [rng.random() < 0.94 for _ in range(128)]
        lengths = [600 + int(rng.expovariate(1 / 120)) if image else rng.randint(300, 2048) for image in has_image]
        costs = [sum(lengths[i] for i in pack) for pack in plan_step(lengths, has_image, 16)]
        balances.append(max(costs) * 16 / sum(costs))
    assert sum(balances) / len(balances) < 1.03


def test_ranks_of_one_micro_step_get_neighbours_in_cost():
    assert deal_packs([[0], [1], [2], [3]], world_size=2) == [[[0], [2]], [[1], [3]]]


@pytest.mark.parametrize("num_packs", [0, 4])
def test_more_packs_than_examples_are_refused(num_packs: int):
    with pytest.raises(ValueError, match=f"3 examples cannot fill {num_packs} packs"):
        plan_step([1, 2, 3], [True] * 3, num_packs)


def test_the_report_in_literals():
    # Packs of 3 + 1 and 4 + 2 tokens in step one, 10 in step two; padded they would take 6, 8 and 10.
    lengths, has_image = [3, 1, 4, 2, 10], [True, False, False, False, True]
    report = PackingReport.of_steps([[[0, 1], [2, 3]], [[4]]], lengths, has_image, max_length=9)
    assert report.to_dict() == {
        "num_packs": 3,
        "num_examples": 5,
        "num_tokens": 20,
        "mean_tokens": 20 / 3,
        "min_tokens": 4,
        "max_tokens": 10,
        "mean_balance": (6 / 5 + 1) / 2,
        "worst_balance": 6 / 5,
        "padding_avoided": 1 - 20 / 24,
        "num_packs_without_image": 1,
        "longest_example": 10,
        "max_length": 9,
        "num_over_long": 1,
    }
