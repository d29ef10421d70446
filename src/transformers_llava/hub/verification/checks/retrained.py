"""Compare retrained weights with the published ones: bit for bit, else within tolerance and with what differed."""

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers_llava.artifacts.run_record.record_file import RUN_NAME, read_checked_record
from transformers_llava.artifacts.run_record.recorded import RunRecordError
from transformers_llava.artifacts.run_record.run_stages import RunRecord
from transformers_llava.artifacts.untrusted import read_json
from transformers_llava.conversion.convert import convert_checkpoint
from transformers_llava.data.mixture.lock import check_lock, compare_locks
from transformers_llava.hub.verification.checks.tensor_distance import WeightDistance, weight_distance
from transformers_llava.hub.verification.findings import Found, guarded, reason


TOLERANCE_WEIGHTS = 1e-4  # relative distance that another order of the same sums explains in a short run
TOLERANCE_LOSS = 1e-3  # relative, of the first losses
NUM_LOSSES = 10

# Of the place, not of the run: a run that was repeated has others.
_PATHS = {
    *("output_dir", "train_data", "model_name_or_path", "language_model_name_or_path", "vision_tower_name_or_path"),
    *("chat_template", "resume_from_checkpoint", "report_to", "run_name"),
}


def check_retrained(
    folder: Path, run: RunRecord | None, retrained: Path, layout: str
) -> Iterator[tuple[str, str, Any, str]]:
    """
    Level 3 and, where the tensors are not identical, level 4, with what was different about the run.

    Args:
        folder (`Path`): The publication.
        run (`RunRecord`, *optional*): Its record; `None` where that cannot be read, which level 1 says.
        retrained (`Path`): What was trained again.
        layout (`str`): Of the publication.
    """
    name = "retrained weights"
    try:
        distance = _distance(folder, retrained, layout)
    except Exception as error:  # of files that others wrote, through safetensors and the conversion
        yield "L3", name, "failed", f"they cannot be compared: {reason(error)}"
        return
    if distance.identical:
        yield "L3", name, "ok", "every tensor is identical, bit for bit"
        return
    both = _both_records(run, retrained)
    reasons = "; ".join(_run_differences(both)) or "the runs record no difference"
    faults = "".join(f", {fault}" for fault in distance.faults)
    yield "L3", name, "failed", f"{len(distance.different)} tensors differ{faults}; {reasons}"
    allowed = f"relative distance {distance.relative:.1e}, tolerance {TOLERANCE_WEIGHTS:.0e}"
    if distance.is_within(TOLERANCE_WEIGHTS):
        yield "L4", name, "ok", allowed
    else:
        yield "L4", name, "failed", f"{allowed}{faults}; {reasons}"
    for found in guarded("first losses", lambda: [_compare_losses(both)]):
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


_Both = tuple[RunRecord, RunRecord] | str  # or why they cannot be compared


def _both_records(run: RunRecord | None, retrained: Path) -> _Both:
    if run is None:
        return f"{RUN_NAME} of the publication cannot be read"
    try:
        return run, read_checked_record(retrained)
    except RunRecordError as error:
        return reason(error)


def _run_differences(both: _Both) -> Iterator[str]:
    """What the two records say differently: settings, data, base models, versions, hardware; of every stage."""
    if isinstance(both, str):
        yield f"the runs cannot be compared ({both})"
        return
    try:
        yield from _differences(*both)
    except Exception as error:  # a record of any form
        yield f"the runs cannot be compared ({reason(error)})"


def _differences(run: RunRecord, again: RunRecord) -> Iterator[str]:
    for ours, theirs in zip(run.stages, again.stages, strict=True):
        for first, second in (
            (ours.configuration, theirs.configuration),
            (ours.versions, theirs.versions),
            (ours.hardware.to_dict(), theirs.hardware.to_dict()),
        ):
            for name in sorted(first.keys() & second.keys()):
                was, now = first[name], second[name]
                if was != now and name not in _PATHS:
                    yield f"{ours.name}: {name} was {was!r} and is {now!r}"
        before, after = ours.mixture_lock, theirs.mixture_lock
        if before and after:
            check_lock(before, f"the lock in {RUN_NAME}")
            check_lock(after, "the lock of the retrained run")
            yield from (f"{ours.name}: {what}" for what in compare_locks(before, after))
        digests = {base.role: base.digest for base in theirs.base_models}
        for base in ours.own_bases:
            if digests.get(base.role) != base.digest:
                yield f"{ours.name}: another {base.role} than {base.name}"


def _compare_losses(both: _Both) -> Found:
    name = "first losses"
    if isinstance(both, str):
        return Found(name, "failed", f"it cannot be checked: {both}")
    first, second = (_losses(run) for run in both)
    if not first or len(first) != len(second):
        return Found(name, "failed", f"{len(first)} are published, {len(second)} were made again: nothing to compare")
    wrong = [loss for loss in (*first, *second) if not isinstance(loss, int | float) or not math.isfinite(loss)]
    if wrong:
        return Found(name, "failed", f"{wrong[0]!r} among them is no number")
    worst = max(abs(a - b) / max(abs(a), 1e-12) for a, b in zip(first, second, strict=True))
    message = f"the first {len(first)} agree within {worst:.1e}, tolerance {TOLERANCE_LOSS:.0e}"
    return Found(name, "ok" if worst <= TOLERANCE_LOSS else "failed", message)


def _losses(run: RunRecord) -> list[Any]:
    """The first losses as recorded: one that is no number stands there as `null` or a word."""
    return [loss for _, loss in run.own.losses][:NUM_LOSSES]


__all__ = ["check_retrained"]
