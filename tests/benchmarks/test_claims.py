"""A claim is shown by figures that keep it, and not yet by any other, with the figure in both cases."""

from typing import Any

import pytest

from benchmarks.harness.claims import CLAIMS


HOURS, SHARE, CAP, SLOWER = CLAIMS


def step(stage: int, ratio: float, share: float = 0.6) -> dict[str, Any]:
    notes = {
        "stage": stage,
        "is_plan": True,
        "gpu": "NVIDIA H200",
        "share_of_peak": 0.4,
        "share_of_matmul_rate": share,
    }
    return {"name": f"stage {stage}", "ratio": ratio, "notes": notes}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.question)
def test_without_results_nothing_is_claimed(claim: Any) -> None:
    assert claim.state([]) == "not yet: no GPU was at hand"


def test_half_of_the_hours_needs_both_stages() -> None:
    assert HOURS.state([step(1, 2.0), step(2, 2.0)]).startswith("shown: 6.8 of 13.5 h")
    assert HOURS.state([step(1, 1.4), step(2, 2.0)]).startswith("not yet: 7.5 of 13.5 h")
    assert HOURS.state([step(2, 9.0)]) == "not yet: a stage was not measured"


def test_the_share_is_that_of_the_worse_stage() -> None:
    assert (
        SHARE.state([step(1, 2, 0.6), step(2, 2, 0.56)]) == "shown: 56.0% of the matmul rate (stage 2) on NVIDIA H200"
    )
    assert SHARE.state([step(1, 2, 0.5), step(2, 2, 0.56)]).startswith("not yet: 50.0%")


def test_memory_and_ratios_decide_by_their_figures() -> None:
    assert CAP.state([{"name": "stage 1 in NF4, micro-batch 1", "ours": 6.1}]).startswith("shown: 6.1 GB")
    assert CAP.state([{"name": "stage 1 in NF4, micro-batch 1", "ours": 10.4}]).startswith("not yet: 10.4 GB")
    assert SLOWER.state([{"name": "a", "ratio": 1.2}, {"name": "b", "ratio": 0.97}]).startswith("shown")
    assert SLOWER.state([{"name": "a", "ratio": 1.2}, {"name": "b", "ratio": 0.9}]) == (
        "not yet: at least 0.90 times as fast (b)"
    )
