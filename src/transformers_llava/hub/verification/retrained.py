"""Compare retrained weights with the published ones: bit for bit, else within tolerance and with what differed."""

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers_llava.artifacts.run_record import read_run, stages_of
from transformers_llava.artifacts.untrusted import read_json
from transformers_llava.conversion.convert import convert_checkpoint
from transformers_llava.data.mixture.lock import check_lock, compare_locks
from transformers_llava.hub.verification.findings import Found, guarded, reason
from transformers_llava.hub.verification.tensor_distance import WeightDistance, weight_distance


TOLERANCE_WEIGHTS = 1e-4  # relative distance that another order of the same sums explains in a short run
TOLERANCE_LOSS = 1e-3  # relative, of the first losses
NUM_LOSSES = 10

# Of the place, not of the run: a run that was repeated has others.
_PLACES = {
    *("output_dir", "train_data", "model_name_or_path", "language_model_name_or_path", "vision_tower_name_or_path"),
    *("chat_template", "resume_from_checkpoint", "report_to", "run_name"),
}


def check_retrained(folder: Path, retrained: Path, layout: str) -> Iterator[tuple[str, str, Any, str]]:
    """Level 3 and, where the tensors are not identical, level 4, with what was different about the run."""
    name = "retrained weights"
    try:
        distance = _distance(folder, retrained, layout)
    except Exception as error:  # of files that others wrote, through safetensors and the conversion
        yield "L3", name, "failed", f"they cannot be compared: {reason(error)}"
        return
    if distance.identical:
        yield "L3", name, "ok", "every tensor is identical, bit for bit"
        return
    reasons = "; ".join(_run_differences(folder, retrained)) or "the runs record no difference"
    faults = "".join(f", {fault}" for fault in distance.faults)
    yield "L3", name, "failed", f"{len(distance.different)} tensors differ{faults}; {reasons}"
    allowed = f"relative distance {distance.relative:.1e}, tolerance {TOLERANCE_WEIGHTS:.0e}"
    if distance.is_within(TOLERANCE_WEIGHTS):
        yield "L4", name, "ok", allowed
    else:
        yield "L4", name, "failed", f"{allowed}{faults}; {reasons}"
    for found in guarded("first losses", lambda: [_compare_losses(folder, retrained)]):
        yield ("L4", *found)


def _distance(folder: Path, retrained: Path, layout: str) -> WeightDistance:
    if layout != "builtin" or _layout_of(retrained) == "builtin":
        return weight_distance(folder, retrained)
    with tempfile.TemporaryDirectory() as scratch:
        same_layout = Path(scratch) / "builtin"
        convert_checkpoint(retrained, same_layout, to="builtin")
        return weight_distance(folder, same_layout)


def _layout_of(folder: Path) -> str:
    kind = read_json(folder / "config.json").get("model_type")
    return "builtin" if kind in ("llava", "llava_next") else "open_llava"


def _run_differences(folder: Path, retrained: Path) -> Iterator[str]:
    """What the two records say differently: settings, data, base models, versions, hardware; of every stage."""
    try:
        yield from _differences(folder, retrained)
    except Exception as error:  # a record of any form
        yield f"the runs cannot be compared ({reason(error)})"


def _differences(folder: Path, retrained: Path) -> Iterator[str]:
    for ours, theirs in zip(stages_of(read_run(folder)), stages_of(read_run(retrained)), strict=True):
        for what in ("configuration", "versions", "hardware"):
            for name in sorted(ours.run[what].keys() & theirs.run[what].keys()):
                was, now = ours.run[what][name], theirs.run[what][name]
                if was != now and name not in _PLACES:
                    yield f"{ours.name}: {name} was {was!r} and is {now!r}"
        before, after = ours.run.get("mixture_lock"), theirs.run.get("mixture_lock")
        if before and after:
            check_lock(before, "the lock in run.json")
            check_lock(after, "the lock of the retrained run")
            yield from (f"{ours.name}: {what}" for what in compare_locks(before, after))
        digests = {base["role"]: base["digest"] for base in theirs.run["base_models"]}
        for base in ours.run["base_models"]:
            if digests.get(base["role"]) != base["digest"] and ours.number == 1:
                yield f"{ours.name}: another {base['role']} than {base['name']}"


def _compare_losses(folder: Path, retrained: Path) -> Found:
    name, (first, second) = "first losses", (_losses(folder), _losses(retrained))
    if not first or len(first) != len(second):
        return Found(name, "failed", f"{len(first)} are published, {len(second)} were made again: nothing to compare")
    wrong = [loss for loss in (*first, *second) if not isinstance(loss, int | float) or not math.isfinite(loss)]
    if wrong:
        return Found(name, "failed", f"{wrong[0]!r} among them is no number")
    worst = max(abs(a - b) / max(abs(a), 1e-12) for a, b in zip(first, second, strict=True))
    message = f"the first {len(first)} agree within {worst:.1e}, tolerance {TOLERANCE_LOSS:.0e}"
    return Found(name, "ok" if worst <= TOLERANCE_LOSS else "failed", message)


def _losses(folder: Path) -> list[Any]:
    """The first losses as recorded: one that is no number stands there as `null` or a word."""
    return [entry["loss"] for entry in read_run(folder)["loss_history"] if "loss" in entry][:NUM_LOSSES]


__all__ = ["check_retrained"]
