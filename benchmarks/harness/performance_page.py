"""Render `docs/reference/performance.md` from results: every figure with its floor, its command and its file.

    python -m benchmarks.harness.performance_page

Nothing on the page is written by hand, so it cannot say more than the files do; a test compares the two.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.harness.claims import CLAIMS
from benchmarks.harness.command import CPU_RESULTS
from benchmarks.harness.results import ROOT, read_results


PAGE = ROOT / "docs" / "reference" / "performance.md"
GPU_RESULTS = ROOT / "benchmarks" / "results" / "gpu"
MEASURED = ROOT / "src" / "transformers_llava" / "training" / "estimate" / "measured.json"  # travels in the wheel
TITLES = {
    "packed_training": "Training step: packed against padded",
    "vision_tower": "Vision tower: cut, and without a graph where it is frozen",
    "loss_head": "Loss head: supervised positions alone",
    "generating": "Answering, and many questions about one image",
    "preprocessing": "Images to tensors, sizes to token counts",
    "starting": "Import, load, convert",
}
READING = {
    "packed_training": """\
`positions` in the file say how much of the ratio is padding. The rest is attention: over padded rows it is longer and
has a dense mask, and in a model this narrow it is a larger share of the work than in a 7B, where the ratio should come
closer to that of the positions. In length-grouped order a batch is nearly free of padding, but its samples are alike
in length, which those of a random order are not; packing needs no grouping.""",
    "vision_tower": """\
One layer of 24 is 4 % and one of 27 with SigLIP's head is more. The frozen tower's step is the case of stage 1 with
gradient checkpointing: hooks make the embeddings of the built-in tower require gradients, so that it computes its
layers twice and their gradients once, for nothing.""",
    "loss_head": """\
This is the loss of the model itself. The trainer uses TRL's fused head, which finds the supervised positions on GPUs
and scores every position elsewhere; our collators say the positions, and only these reach it on every device: see
*training step, supervised positions* above.""",
    "generating": """\
Prefill and batches gain from the cut tower and decoding is the same code, so a ratio near 1 is what can be expected
there. Answering several questions about one image is where the time goes in evaluation and chat:
`transformers_llava.generation.answering.ImageAnswerer` computes image and system text once.""",
    "preprocessing": """\
Token counts are compared in one call over many sizes. Of LLaVA-1.6's counts a few differ, because the built-in
processor rounds otherwise than the original; ours are the original's.""",
    "starting": """\
An original checkpoint loads as it lies on disk, about as fast as one that was converted before. Conversion goes tensor
by tensor, which keeps memory near the largest tensor and costs a copy that loading and saving a whole model does not.
In practice the disk decides.""",
}
# What `benchmarks/data_plane.py` exits with status 1 for; a test compares them.
DATA_TARGETS = {"cold_seconds": 600, "warm_seconds": 20, "peak_memory_gb": 4, "plan_seconds": 20, "balance": 1.03}
HEADER = """\
# Performance

<!-- Written by `python -m benchmarks.harness.performance_page` from the files in benchmarks/results/. Do not edit. -->

Each figure is of one run in which both sides took turns on the same work, and a run counts only if both computed the
same thing. Ratios say how many times better ours is, above 1 better, whichever way the unit counts; in brackets the
first and third quartile over the turns. What is only meant to be as fast as the alternative may be 3 % slower. A floor
is the best that the machine of that run could do. Small models on a CPU show *that* work is saved and that nothing got
slower; how much a 7B on a GPU gains is another question, and is not answered by them.
"""


def render_page() -> str:
    """The page of the results files as they are."""
    parts = [HEADER, "## On a CPU\n"]
    lines = read_results(CPU_RESULTS)
    parts.append(_settings(lines, "make bench", CPU_RESULTS))
    for question, title in TITLES.items():
        command = f"python -m benchmarks.{question}"
        group = [line for line in lines if line["command"] == command]
        parts.append(f"### {title}\n\n`{command}`\n\n{_table(group)}\n\n{READING[question]}\n")
    parts += [_data_plane(), _collating(), _gpu()]
    return "\n".join(parts)


def write_page() -> None:
    """Write the page, and what `llava train --dry_run` takes its share of the peak from."""
    PAGE.write_text(render_page(), encoding="utf-8")
    measured = measured_shares()
    if measured:
        MEASURED.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


def measured_shares() -> list[dict[str, Any]]:
    """The lines of `training.json` that are a share of the card's peak, as the planner reads them."""
    lines = read_results(GPU_RESULTS / "training.json")
    return [
        {
            "gpu": line["notes"]["gpu"],
            "stage": line["notes"]["stage"],
            "share_of_peak": line["notes"]["share_of_peak"],
            "name": line["name"],
            "date": line["date"],
            "command": line["command"],
            "file": (GPU_RESULTS / "training.json").relative_to(ROOT).as_posix(),
        }
        for line in lines
        if line["notes"].get("is_plan") and line["notes"].get("share_of_peak")
    ]


def _data_plane() -> str:
    file = CPU_RESULTS.with_name("data_plane.json")
    found = json.loads(file.read_text(encoding="utf-8"))
    rows = [
        "| | measured | target |",
        "|---|---|---|",
        f"| read, check, count and plan {found['num_records']:,} records, nothing kept from before | "
        f"{found['cold_seconds']:,.0f} s | ≤ {DATA_TARGETS['cold_seconds']} s |",
        f"| once more | {found['warm_seconds']:.1f} s | ≤ {DATA_TARGETS['warm_seconds']} s |",
        f"| of that, packing every step of an epoch | {found['plan_seconds']:.1f} s | "
        f"≤ {DATA_TARGETS['plan_seconds']} s |",
        f"| memory of all processes | {found['peak_memory_gb']:.2f} GB | ≤ {DATA_TARGETS['peak_memory_gb']} GB |",
        f"| heaviest pack over mean pack | {found['balance']:.4f} | ≤ {DATA_TARGETS['balance']} |",
    ]
    head = _old_settings(found, "python benchmarks/data_plane.py --json benchmarks/results/data_plane.json", file)
    return f"### From records to a plan of every step\n\n{head}\n" + "\n".join(rows) + "\n"


def _collating() -> str:
    file = CPU_RESULTS.with_name("collating.json")
    found = json.loads(file.read_text(encoding="utf-8"))
    rates, shares = found["samples_per_second"], found["useful_share_of_positions"]
    rows = [
        "| | ours | TRL's vision collator | ratio |",
        "|---|---|---|---|",
        f"| samples per second, answers alone supervised | {rates['ours']} | {rates['trl']} | "
        f"**{found['ratio_per_sample']:.2f}** |",
        f"| samples per second, against its default, which supervises every token | {rates['ours']} | "
        f"{rates['trl_all_labels']} | **{found['ratio_per_sample_all_labels']:.2f}** |",
        f"| share of positions that are no padding | {shares['ours']} | {shares['trl']} | "
        f"**{found['ratio_per_position_useful']:.2f}** |",
    ]
    head = _old_settings(found, "python benchmarks/collating.py --json benchmarks/results/collating.json", file)
    return f"### Collating\n\n{head}\n" + "\n".join(rows) + "\n"


def _old_settings(found: dict[str, Any], command: str, file: Path) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    path = file.relative_to(ROOT).as_posix()
    return (
        f"Command: `{command}`. Results: [`{path}`](../../{path}).\n"
        f"Machine: {found['machine']}; date: {found['date']}; commit: {found['commit'][:10]}; versions: {versions}.\n"
    )


def _gpu() -> str:
    files = sorted(GPU_RESULTS.glob("*.json"))
    text = ["## On a GPU\n"]
    if not files:
        text.append(
            "Not yet: no GPU was at hand. The suite is ready (`make gpu`, see "
            "[`benchmarks/gpu/README.md`](../../benchmarks/gpu/README.md)); its dry run on small shapes is part of "
            "the tests. Nothing is estimated here; `llava train --dry_run` plans with an assumption and says so: "
            "[traced plans](traced_plans.md).\n"
        )
    rows = ["| claim | state | command |", "|---|---|---|"]
    for claim in CLAIMS:
        state = claim.state(read_results(GPU_RESULTS / f"{claim.question}.json"))
        rows.append(f"| {claim.text} | {state} | `python -m benchmarks.gpu.{claim.question}` |")
    text.append("\n".join(rows) + "\n")
    for file in files:
        lines = read_results(file)
        text.append(f"### {file.stem.replace('_', ' ').capitalize()}\n")
        text.append(_settings(lines, lines[0]["command"], file))
        text.append(_table(lines) + "\n")
    return "\n".join(text)


def _settings(lines: list[dict[str, Any]], command: str, file: Path) -> str:
    """Machine, versions, commits and dates: once, if all lines agree."""
    found = {
        "machine": sorted({line["machine"] for line in lines}),
        "threads": sorted({str(line["threads"]) for line in lines}),
        "date": sorted({line["date"] for line in lines}),
        "commit": sorted({line["commit"][:10] for line in lines}),
        "versions": sorted(
            {", ".join(f"{name} {number}" for name, number in line["versions"].items()) for line in lines}
        ),
    }
    facts = "; ".join(f"{name}: {' and '.join(values)}" for name, values in found.items())
    path = file.relative_to(ROOT).as_posix()
    return f"Command: `{command}`. Results: [`{path}`](../../{path}).\n{facts[0].upper() + facts[1:]}.\n"


def _table(lines: list[dict[str, Any]]) -> str:
    """The figures as a table, and below it what each line did, how it was checked, and what its floor is."""
    rows = ["| | ours | other | ratio | target | floor |", "|---|---|---|---|---|---|"]
    for line in lines:
        ratio = target = ""
        if line["ratio"] is not None:
            spread = line["spread"].get("ratio")
            ratio = f"**{line['ratio']:.2f}**" + (f" ({spread[0]:.2f} to {spread[1]:.2f})" if spread else "")
            target = f"≥ {line['at_least']:g}" + ("" if line["ratio"] >= line["at_least"] else ", **missed**")
        values = [_value(line, name) for name in ("ours", "other")]
        rows.append(f"| {line['name']} | {' | '.join(values)} | {ratio} | {target} | {_value(line, 'floor')} |")
    return "\n".join([*rows, "", *map(_explanation, lines)])


def _explanation(line: dict[str, Any]) -> str:
    against = "" if line["other"] is None else f"; against {line['other_is']}"
    checked = f" Checked: {line['checked']}." if line["checked"] else ""
    return f"- *{line['name']}*: {line['ours_is']}{against}.{checked} Floor: {line['floor_is']}."


def _value(line: dict[str, Any], name: str) -> str:
    value = line[name]
    if value is None:
        return "–"
    return f"{value:,.4g} {line['unit']}" if value < 1e4 else f"{value:,.0f} {line['unit']}"


if __name__ == "__main__":
    write_page()
    sys.exit(0)
