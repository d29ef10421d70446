"""How much of a source is used."""

import logging

import pytest

from transformers_llava.data.mixture.subsampling import TokenBudget, draw_rows, draw_within_budget


@pytest.mark.parametrize(
    ("amount", "rows"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"sampling": "all"}, [0, 1, 2, 3, 4]),
        ({"sampling": "first:2"}, [0, 1]),
        ({"sampling": "end:2"}, [3, 4]),
        ({"sampling": "first:50%"}, [0, 1, 2]),  # rounded up, as LLaVA-NeXT does
        ({"sampling": "end:0"}, []),
        ({"weight": 2.0}, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]),
        ({"num_examples": 5}, [0, 1, 2, 3, 4]),
    ],
)
def test_rows(amount, rows):
    assert draw_rows(5, name="s", **amount) == rows


@pytest.mark.parametrize(
    "amount", [{"num_examples": 40}, {"weight": 0.4}, {"sampling": "random:40"}, {"sampling": "random:40%"}]
)
def test_a_draw_has_the_right_size_and_no_repetition(amount):
    rows = draw_rows(100, name="s", **amount)
    assert len(set(rows)) == len(rows) == 40
    assert rows == sorted(rows) == draw_rows(100, name="s", **amount)
    assert rows != draw_rows(100, name="t", **amount)
    assert rows != draw_rows(100, name="s", seed=1, **amount)


def test_a_multiple_repeats_every_row_before_any_a_third_time():
    rows = draw_rows(5, name="s", weight=2.4)
    assert sorted(rows.count(row) for row in range(5)) == [2, 2, 2, 3, 3]


def test_more_than_there_is_means_all_and_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        assert draw_rows(3, name="s", num_examples=9) == [0, 1, 2]
    assert "source s: 9 examples are wanted, all 3 usable ones are used" in caplog.text


def test_nothing_can_be_drawn_from_nothing():
    assert draw_rows(0, name="s", weight=2.0) == draw_rows(0, name="s", num_examples=3) == []


def test_a_token_budget_is_filled_and_never_exceeded():
    lengths = [3, 5, 4, 8, 1, 9]
    for seed in range(20):
        taken = draw_within_budget(lengths, TokenBudget(15, seed), name="s")
        assert taken == sorted(set(taken))
        total = sum(lengths[place] for place in taken)
        assert total <= 15 < total + 9
    assert len({tuple(draw_within_budget(lengths, TokenBudget(15, seed), name="s")) for seed in range(20)}) > 5
    assert draw_within_budget(lengths, TokenBudget(15, 1), name="s") == draw_within_budget(
        lengths, TokenBudget(15, 1), name="s"
    )


def test_a_budget_larger_than_the_source_takes_everything_and_says_so(caplog):
    assert draw_within_budget([3, 5], TokenBudget(9, 0), name="s") == [0, 1]
    assert "9 tokens are wanted, all 8 are used" in caplog.text
