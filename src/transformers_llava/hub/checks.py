"""The single checks of a publication: each gives (name, status, message) and names the file, field or source."""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from transformers_llava.conversion.convert import convert_checkpoint
from transformers_llava.conversion.origins import weights_digest
from transformers_llava.data.lock import compare_locks, make_lock
from transformers_llava.data.mixture import build_mixture
from transformers_llava.data.mixture_file import read_mixture_file
from transformers_llava.hub.documents import check_documents
from transformers_llava.hub.manifest import Manifest, listed_files
from transformers_llava.hub.recipe_folder import RECIPE_FOLDER, base_of, mixture_name, recipe_texts
from transformers_llava.hub.signing import SIGNATURE_NAME, SigningError, check
from transformers_llava.hub.stages import RUN_NAME, RunRecordError, Stage, read_run, stages_of
from transformers_llava.hub.tensors import tensor_digests, weight_distance


Found = tuple[str, Any, str]  # name, status, message

TOLERANCE_WEIGHTS = 1e-4  # relative distance that another order of the same sums explains in a short run
TOLERANCE_LOSS = 1e-3  # relative, of the first losses
NUM_LOSSES = 10
_HARMLESS = {".md", ".txt", ".png", ".jpg", ".pdf", ".gif"}  # what people add on the Hub, and no loader reads


def check_contents(folder: Path, manifest: Manifest) -> Iterator[Found]:
    """Every file as listed, no more and no less; of changed weights, which tensor."""
    present = listed_files(folder)
    for name, facts in manifest.files.items():
        if name not in present:
            yield name, "failed", "the manifest lists it, and it is not there"
        elif present[name] != facts:
            yield name, "failed", f"its bytes are not the recorded ones (sha256 {present[name]['sha256'][:12]})"
    for name in sorted(present.keys() - manifest.files.keys()):
        harmless = Path(name).suffix.lower() in _HARMLESS
        yield name, "skipped" if harmless else "failed", "it is there, and the manifest does not list it"
    if all(present.get(name) == facts for name, facts in manifest.files.items()):
        yield (
            "files",
            "ok",
            f"{len(manifest.files)} files, {sum(one['size'] for one in manifest.files.values()):,} bytes",
        )
    yield from _check_tensors(folder, manifest)


def _check_tensors(folder: Path, manifest: Manifest) -> Iterator[Found]:
    try:
        digests = tensor_digests(folder)
    except Exception as error:  # of safetensors, for a header that was changed
        yield "tensors", "failed", f"the weight files cannot be read: {error}"
        return
    different = sorted(
        name for name in manifest.tensors.keys() | digests.keys() if manifest.tensors.get(name) != digests.get(name)
    )
    if different:
        yield "tensors", "failed", f"{len(different)} are not the recorded ones, such as {', '.join(different[:3])}"
    else:
        yield "tensors", "ok", f"{len(digests)} tensors, digest {manifest.tensors_digest[:12]}"


def check_recomputed(folder: Path, manifest: Manifest) -> Iterator[Found]:
    """What is generated from the run record, generated again: recipe, licence statement, card."""
    try:
        run = read_run(folder)
        texts = recipe_texts(run, lambda path: (folder / RECIPE_FOLDER / path).exists())
    except (RunRecordError, KeyError, TypeError) as error:
        yield RUN_NAME, "failed", f"nothing can be recomputed from it: {error!r}"
        return
    wrong = False
    for name, text in texts.items():
        path = folder / RECIPE_FOLDER / name
        there = path.read_text(encoding="utf-8") if path.is_file() else ""
        if there != text:
            wrong = True
            yield f"{RECIPE_FOLDER}/{name}", "failed", _differences(text, there, name)
    if not wrong:
        yield "recipe", "ok", f"{len(texts)} files say what {RUN_NAME} says"
    yield from check_documents(folder, run, manifest)


def _differences(recorded: str, there: str, name: str) -> str:
    """Field by field where both are YAML or JSON; else the first line that differs."""
    if not there:
        return f"it is missing, and {RUN_NAME} has it"
    if name.endswith((".yaml", ".json")):
        try:
            fields = list(_fields(yaml.safe_load(recorded), yaml.safe_load(there)))
        except yaml.YAMLError as error:
            return f"it is not readable: {error}"
        if fields:
            return "; ".join(fields[:5]) + (f" and {len(fields) - 5} more" if len(fields) > 5 else "")
    for line, (was, now) in enumerate(zip(recorded.splitlines(), [*there.splitlines(), ""], strict=False), start=1):
        if was != now:
            return f"line {line} is {now!r}, and {RUN_NAME} gives {was!r}"
    return "it has lines that the run record does not give"


def _fields(recorded: Any, there: Any, path: str = "") -> Iterator[str]:
    if isinstance(recorded, dict) and isinstance(there, dict):
        for key in [*recorded, *(key for key in there if key not in recorded)]:
            yield from _fields(recorded.get(key), there.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(recorded, list) and isinstance(there, list) and len(recorded) == len(there):
        for index, (was, now) in enumerate(zip(recorded, there, strict=True)):
            yield from _fields(was, now, f"{path}[{index}]")
    elif recorded != there:
        yield f"{path}: {RUN_NAME} says {recorded!r}, the file says {there!r}"


def check_parts(folder: Path, data_root: str | Path | None, bases: dict[str, str]) -> Iterator[Found]:
    """Data and base models of every stage, as far as they are here."""
    try:
        stages = stages_of(read_run(folder))
    except RunRecordError:
        return  # said by L1
    for stage in stages:
        yield _check_data(folder, stage, data_root)
        for base in stage.run["base_models"]:
            if not (base["role"] == "checkpoint" and stage.number > 1):
                yield _check_base(folder, stage, base, bases)
            else:
                yield _check_chain(stage, base, stages[stage.number - 2])


def _check_data(folder: Path, stage: Stage, data_root: str | Path | None) -> Found:
    name, recorded = f"data of {stage.name}", stage.run.get("mixture_lock")
    if recorded is None:
        return name, "skipped", "a streamed run has no lock"
    file = folder / RECIPE_FOLDER / mixture_name(stage)
    try:
        config = read_mixture_file(file, data_root=data_root)
        missing = [
            source.path for source in config.sources if "://" not in source.path and not Path(source.path).exists()
        ]
        if missing:
            return (
                name,
                "skipped",
                f"not here: {', '.join(Path(path).name for path in missing)}; name it with --data_root",
            )
        if config.token_budgets:
            return name, "skipped", "it is drawn by tokens: use `llava data verify --model`"
        _, report = build_mixture(config)
        differences = compare_locks(recorded, make_lock(config, report))
    except (ValueError, OSError) as error:
        return name, "failed", str(error)
    if differences:
        return name, "failed", "; ".join(differences)
    return name, "ok", f"{report.num_used:,} examples in the recorded order ({report.order_digest[:19]})"


def _check_base(folder: Path, stage: Stage, base: dict[str, Any], bases: dict[str, str]) -> Found:
    name = f"{base['role']} of {stage.name}"
    where = bases.get(base["role"])
    if where is None and base["origin"] == "folder":
        inside = folder / RECIPE_FOLDER / base_of(base)
        where = str(inside) if inside.is_dir() else None
    held = Path(where) if where is not None else _in_cache(base)
    if held is None:
        return name, "skipped", f"{base['name']} is not here; name it with --base {base['role']}=FOLDER"
    digest = weights_digest(held)
    if digest is None or digest != base["digest"]:
        return (
            name,
            "failed",
            f"these are not the weights of {base['name']} "
            f"(sha256 {str(digest)[:12]}, recorded {str(base['digest'])[:12]})",
        )
    return name, "ok", f"{base['name']}, weights {digest[:12]}"


def _check_chain(stage: Stage, base: dict[str, Any], before: Stage) -> Found:
    """A later stage started from what the one before has written."""
    name, written = f"checkpoint of {stage.name}", before.run.get("weights") or {}
    listing = "".join(f"{digest}  {file}\n" for file, digest in sorted(written.items()))
    if hashlib.sha256(listing.encode()).hexdigest() != base["digest"]:
        return name, "failed", f"it started from other weights than {before.name} has written"
    return name, "ok", f"what {before.name} has written"


def _in_cache(base: dict[str, Any]) -> Path | None:
    """A Hub repository at its recorded commit, if it is in the cache; nothing is fetched for a check."""
    if base["origin"] != "hub" or not base["revision"]:
        return None
    try:
        return Path(snapshot_download(base["name"], revision=base["revision"], local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None


def check_retrained(folder: Path, retrained: Path, layout: str) -> Iterator[tuple[str, str, Any, str]]:
    """Level 3 and, where the tensors are not identical, level 4, with what was different about the run."""
    try:
        with tempfile.TemporaryDirectory() as scratch:
            same_layout = retrained
            if layout == "builtin" and _layout_of(retrained) != "builtin":
                same_layout = Path(scratch) / "builtin"
                convert_checkpoint(retrained, same_layout, to="builtin")
            distance = weight_distance(folder, same_layout)
    except (ValueError, OSError) as error:
        yield "L3", "retrained weights", "failed", f"they cannot be compared: {error}"
        return
    if distance.identical:
        yield "L3", "retrained weights", "ok", "every tensor is identical, bit for bit"
        return
    reasons = "; ".join(_run_differences(folder, retrained)) or "the runs record no difference"
    gone = len(distance.only_first) + len(distance.only_second)
    extra = f", {gone} tensors are in one of the two alone" if gone else ""
    yield "L3", "retrained weights", "failed", f"{len(distance.different)} tensors differ{extra}; {reasons}"
    close = distance.relative <= TOLERANCE_WEIGHTS and not gone
    allowed = f"relative distance {distance.relative:.1e}, tolerance {TOLERANCE_WEIGHTS:.0e}"
    yield "L4", "retrained weights", "ok" if close else "failed", allowed if close else f"{allowed}; {reasons}"
    yield ("L4", *_compare_losses(folder, retrained))


def _layout_of(folder: Path) -> str:
    kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    return "builtin" if kind in ("llava", "llava_next") else "open_llava"


def _run_differences(folder: Path, retrained: Path) -> Iterator[str]:
    """What the two records say differently: settings, data, base models, versions, hardware; of every stage."""
    try:
        pairs = list(zip(stages_of(read_run(folder)), stages_of(read_run(retrained)), strict=True))
    except (RunRecordError, ValueError) as error:
        yield f"the runs cannot be compared ({error})"
        return
    places = {
        "output_dir",
        "train_data",
        "model_name_or_path",
        "language_model_name_or_path",
        "vision_tower_name_or_path",
    }
    places |= {"chat_template", "resume_from_checkpoint", "report_to", "run_name"}
    for ours, theirs in pairs:
        for what in ("configuration", "versions", "hardware"):
            for name in sorted(ours.run[what].keys() & theirs.run[what].keys()):
                was, now = ours.run[what][name], theirs.run[what][name]
                if was != now and name not in places:
                    yield f"{ours.name}: {name} was {was!r} and is {now!r}"
        if ours.run.get("mixture_lock") and theirs.run.get("mixture_lock"):
            yield from (
                f"{ours.name}: {what}" for what in compare_locks(ours.run["mixture_lock"], theirs.run["mixture_lock"])
            )
        digests = {base["role"]: base["digest"] for base in theirs.run["base_models"]}
        for base in ours.run["base_models"]:
            if digests.get(base["role"]) != base["digest"] and ours.number == 1:
                yield f"{ours.name}: another {base['role']} than {base['name']}"


def _compare_losses(folder: Path, retrained: Path) -> Found:
    first, second = (
        [entry["loss"] for entry in read_run(place)["loss_history"] if "loss" in entry][:NUM_LOSSES]
        for place in (folder, retrained)
    )
    pairs = list(zip(first, second))
    if not pairs:
        return "first losses", "skipped", "no loss is recorded"
    worst = max(abs(a - b) / max(abs(a), 1e-12) for a, b in pairs)
    message = f"the first {len(pairs)} agree within {worst:.1e}, tolerance {TOLERANCE_LOSS:.0e}"
    return "first losses", "ok" if worst <= TOLERANCE_LOSS else "failed", message


def check_signature(folder: Path, public_key: str | Path | None) -> Iterator[Found]:
    """The signature of `model-signing`, where there is one and the key to check it."""
    if not (folder / SIGNATURE_NAME).is_file():
        if public_key is not None:
            yield "signature", "failed", f"there is no {SIGNATURE_NAME}"
        return
    if public_key is None:
        yield "signature", "skipped", "there is one; name the signer's key with --public_key"
        return
    try:
        check(folder, Path(public_key))
    except SigningError as error:
        yield "signature", "failed", str(error)
    else:
        yield "signature", "ok", f"made with the private half of {Path(public_key).name}"


__all__ = ["check_contents", "check_parts", "check_recomputed", "check_retrained", "check_signature"]
