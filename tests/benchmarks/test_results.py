"""Committed results reach their targets, and the page of performance says what they say and nothing else."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.data_plane import TARGETS
from benchmarks.harness.claims import CLAIMS
from benchmarks.harness.command import CPU_RESULTS
from benchmarks.harness.performance_page import DATA_TARGETS, GPU_RESULTS, PAGE, render_page
from benchmarks.harness.results import NOT_SLOWER, ROOT, read_results
from benchmarks.harness.run import QUESTIONS


LINES = read_results(CPU_RESULTS)
FIELDS = {"name", "ours", "other", "ratio", "unit", "other_is", "checked", "floor_is", "spread", "machine", "versions"}
FIELDS |= {"commit", "date", "command", "repeats", "threads", "clock"}


def by_name(name: str) -> dict:
    return next(line for line in LINES if line["name"] == name)


def test_every_question_has_results_with_all_that_is_needed_to_judge_them() -> None:
    assert {line["command"].rpartition(".")[2] for line in LINES} == set(QUESTIONS)
    assert len({line["name"] for line in LINES}) == len(LINES)
    for line in LINES:
        assert set(line) >= FIELDS, line["name"]
        assert line["checked"], line["name"]
        assert not re.search(r"host|\.local|/home", line["machine"])


@pytest.mark.parametrize("line", LINES, ids=lambda line: line["name"])
def test_every_target_is_reached(line: dict) -> None:
    assert line["ratio"] >= line["at_least"], f"run it again on an idle machine: {line['command']}"


def test_the_targets_of_the_project() -> None:
    assert by_name("training step, random order")["ratio"] >= 1.5
    assert by_name("CLIP cut at layer -2")["checked"] == "features equal bit for bit"
    assert by_name("CLIP cut at layer -2")["ratio"] > 1
    reuse = by_name("4 questions, reuse")
    assert reuse["ratio"] >= 2
    assert reuse["checked"] == "the same tokens"
    # What is less than "not slower" is measured against a side that does less: it converts nothing.
    lower = {line["name"] for line in LINES if line["at_least"] < NOT_SLOWER}
    assert lower <= {"load, original layout on the fly", "conversion"}


def test_page_and_results_agree() -> None:
    """After `make bench`, or an edit of the page: `python -m benchmarks.harness.performance_page`."""
    assert PAGE.read_text(encoding="utf-8") == render_page()


def test_figures_on_the_page_are_those_of_the_file() -> None:
    """Read from the page's text, not rendered: the two could not drift apart together."""
    page = PAGE.read_text(encoding="utf-8")
    for line in LINES:
        row = next(row for row in page.splitlines() if row.startswith(f"| {line['name']} |"))
        assert f"**{line['ratio']:.2f}**" in row
        explanation = next(row for row in page.splitlines() if row.startswith(f"- *{line['name']}*"))
        assert line["checked"] in explanation


def test_a_claim_without_a_gpu_result_is_not_yet_shown() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for claim in CLAIMS:
        row = next(row for row in page.splitlines() if claim.text in row)
        assert ("not yet: no GPU was at hand" in row) == (not (GPU_RESULTS / f"{claim.question}.json").is_file())


def test_older_results_are_on_the_page_and_reach_their_targets() -> None:
    page = PAGE.read_text(encoding="utf-8")
    data = json.loads(CPU_RESULTS.with_name("data_plane.json").read_text(encoding="utf-8"))
    assert DATA_TARGETS == TARGETS
    assert all(data[name] <= target for name, target in TARGETS.items())
    assert f"| {data['warm_seconds']:.1f} s |" in page
    collating = json.loads(CPU_RESULTS.with_name("collating.json").read_text(encoding="utf-8"))
    assert f"**{collating['ratio_per_sample']:.2f}**" in page


def test_kills_in_the_guide_are_those_of_the_soak() -> None:
    guide = (ROOT / "docs" / "guides" / "train.md").read_text(encoding="utf-8")
    soak = json.loads(CPU_RESULTS.with_name("soak.json").read_text(encoding="utf-8"))
    assert soak["identical"]
    counts = [len(runs["kills"]) for runs in soak.values() if isinstance(runs, dict) and "kills" in runs]
    assert counts == [20, 5]
    assert "twenty kills of one process and five of two" in guide


def test_results_are_lists_of_lines() -> None:
    assert isinstance(json.loads(Path(CPU_RESULTS).read_text(encoding="utf-8")), list)
