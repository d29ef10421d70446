"""The harness: turns alternate, ratios say how many times better ours is, bytes are counted, lines replace lines."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.harness.memory import peak_bytes, saved_bytes
from benchmarks.harness.results import Comparison, compared, format_table, read_results, write_results
from benchmarks.harness.timing import Timing, take_turns


def line(name: str, ratio: float = 2.0) -> Comparison:
    return Comparison(
        name=name, ours=1.0, other=2.0, ratio=ratio, unit="s", ours_is="a", other_is="b", checked="equal", at_least=1.5
    )


def test_sides_take_turns_and_who_begins_changes() -> None:
    calls: list[str] = []
    ticks = iter(range(100))
    timing = take_turns(
        lambda: calls.append("ours"),
        lambda: calls.append("other"),
        repeats=2,
        warmups=1,
        clock=lambda: float(next(ticks)),
    )
    assert calls == ["other", "ours", "ours", "other", "other", "ours"]
    assert timing == Timing(ours=[1.0, 1.0], other=[1.0, 1.0])


def test_a_ratio_above_one_is_better_for_times_and_for_rates() -> None:
    timing = Timing(ours=[1.0, 2.0, 1.0], other=[3.0, 6.0, 4.0])
    facts = {"ours_is": "", "other_is": "", "checked": ""}
    time = compared(timing, name="a", unit="ms", **facts)
    assert (time.ours, time.other, time.ratio, time.higher_is_better) == (1000.0, 4000.0, 3.0, False)
    rate = compared(timing, name="a", unit="tokens/s", amount=12, **facts)
    assert (rate.ours, rate.other, rate.ratio, rate.higher_is_better) == (12.0, 3.0, 3.0, True)
    assert time.spread["ratio"] == [3.0, 3.5]


def test_a_missed_target_is_seen() -> None:
    assert line("a").is_kept
    assert not line("a", ratio=1.4).is_kept
    assert "MISSED" in format_table([line("a", ratio=1.4)])
    assert "MISSED" not in format_table([line("a")])


def test_peak_counts_what_lives_at_once_and_views_only_once() -> None:
    start = torch.zeros(1000)  # 4,000 bytes, not counted: it lived before

    def run() -> torch.Tensor:
        first = start + 1
        second = first * 2
        del first
        return second.view(10, 100)[0] + start[:100]  # second and 400 bytes

    assert peak_bytes(run) == 8000


def test_saved_bytes_are_what_the_backward_pass_needs() -> None:
    weight = torch.nn.Parameter(torch.zeros(100, 100))
    inputs = torch.zeros(10, 100)

    def run() -> torch.Tensor:
        return (inputs @ weight).sum()

    assert saved_bytes(run) == 4000  # the inputs; the weight is there anyway
    with torch.no_grad():
        assert saved_bytes(run) == 0


def test_a_line_of_the_same_name_is_replaced_and_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    write_results(file, [line("a"), line("b")], command="first", setting={"threads": 1})
    write_results(file, [line("c")], command="second", setting={"threads": 1})
    write_results(file, [line("a", ratio=9.0)], command="first", setting={"threads": 1})
    assert [(found["name"], found["ratio"]) for found in read_results(file)] == [("c", 2.0), ("a", 9.0)]
    assert isinstance(json.loads(file.read_text()), list)


def test_a_side_that_computes_something_else_stops_the_run() -> None:
    from benchmarks import vision_tower

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vision_tower.torch, "equal", lambda a, b: False)
        with pytest.raises(AssertionError):
            vision_tower.measure(1, clip_layers=2, siglip_layers=2)
