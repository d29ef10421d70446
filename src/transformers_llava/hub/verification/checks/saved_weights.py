"""Check weights against the manifest, their index, and what `run.json` says was saved."""

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open

from transformers_llava.artifacts.digests.file_digests import weight_digests
from transformers_llava.artifacts.digests.tensor_digests import tensor_digest, tensor_digests
from transformers_llava.artifacts.run_record.record_file import RUN_NAME
from transformers_llava.artifacts.run_record.run_stages import RunRecord, Stage
from transformers_llava.artifacts.untrusted import DocumentError, checked_name, read_json
from transformers_llava.conversion.weights.key_names import CLASSIC
from transformers_llava.conversion.weights.lazy_tensors import mean_row
from transformers_llava.hub.publication.manifest import Manifest
from transformers_llava.hub.verification.findings import Found, guarded, reason


_TABLES = ("model.language_model.embed_tokens.weight", "lm_head.weight")
_TOWER_LAYER = re.compile(r"(model\.vision_tower\.encoder\.layers\.)(\d+)(\..+)")
_LAST_NORM = "model.vision_tower.post_layernorm."


def check_weights(folder: Path, run: RunRecord | None, manifest: Manifest) -> Iterator[Found]:
    """Every tensor as the manifest lists it, the index true, and both as the run, where it can be read, saved them."""
    try:
        digests = tensor_digests(folder)
    except Exception as error:  # of safetensors, for a header that was changed
        yield Found("tensors", "failed", f"the weight files cannot be read: {reason(error)}")
        return
    different = sorted(
        name for name in manifest.tensors.keys() | digests.keys() if manifest.tensors.get(name) != digests.get(name)
    )
    if different:
        names = ", ".join(different[:3])
        yield Found("tensors", "failed", f"{len(different)} are not the recorded ones, such as {names}")
    elif not digests:
        yield Found("tensors", "failed", "there is no safetensors file, so there are no weights to check")
    else:
        yield Found("tensors", "ok", f"{len(digests)} tensors, digest {manifest.tensors_digest[:12]}")
    yield from guarded("weight index", lambda: _check_index(folder))
    if run is not None:
        stage = run.own
        yield from guarded(f"weights of {RUN_NAME}", lambda: _check_run(folder, stage, manifest, digests))


def _check_index(folder: Path) -> Iterator[Found]:
    """A loader opens what the index names: files of this folder alone, and the tensors that lie in them."""
    files = {path.name: set(_names(path)) for path in sorted(folder.glob("*.safetensors"))}
    for path in sorted(folder.glob("*.index.json")):
        try:
            places = read_json(path).get("weight_map")
            if not isinstance(places, dict) or not places:
                raise DocumentError("it has no `weight_map`, so a loader would find no weights.")
            for name in sorted({str(place) for place in places.values()}):
                checked_name(name, "a file in it")
                if not (folder / name).is_file():
                    raise DocumentError(f"it names {name!r}, which is not there.")
            wrong = [name for name, place in places.items() if name not in files.get(place, ())]
            wrong += sorted(set().union(*files.values()) - places.keys())
            if wrong:
                raise DocumentError(f"it does not say where {len(wrong)} tensors lie, such as {wrong[0]!r}.")
        except DocumentError as error:
            yield Found(path.name, "failed", str(error))
        else:
            yield Found(path.name, "ok", f"{len(places)} tensors in {len(files)} files")
    if len(files) > 1 and not (folder / "model.safetensors.index.json").is_file():
        yield Found("weight index", "failed", f"{len(files)} weight files and no model.safetensors.index.json")


def _check_run(folder: Path, stage: Stage, manifest: Manifest, digests: dict[str, str]) -> Iterator[Found]:
    name, recorded = f"weights of {RUN_NAME}", stage.tensors
    if recorded:
        # The one field that `read_checked_record` leaves to its reader, so that this finding has a name of its own.
        if not isinstance(recorded, dict) or not all(isinstance(one, str) for one in recorded.values()):
            yield Found(name, "failed", "`tensors` does not give a SHA-256 for every name")
            return
        there: dict[str, str] = digests
        different: list[str] = []
        if manifest.layout == "builtin":
            there, different = _in_our_names(folder, digests, recorded)
        different += sorted(one for one in recorded.keys() | there.keys() if recorded.get(one) != there.get(one))
        if different:
            shown = ", ".join(different[:3])
            yield Found(name, "failed", f"{len(different)} tensors are not what the run has saved, such as {shown}")
        else:
            yield Found(name, "ok", f"{len(recorded)} tensors are what the run has saved")
    elif manifest.layout == "open_llava":
        yield _compare_files(folder, stage, name)
    else:
        yield Found(
            name,
            "skipped",
            f"{RUN_NAME} has no digests of tensors (it was written by an older version), and the files are in another "
            "layout than it has saved: only the manifest's digest covers the weights",
        )


def _compare_files(folder: Path, stage: Stage, name: str) -> Found:
    recorded = stage.weights
    if not recorded:
        return Found(name, "failed", f"{RUN_NAME} names no weight file, so nothing says that these are the run's")
    there = weight_digests(folder)
    different = sorted(one for one in recorded.keys() | there.keys() if recorded.get(one) != there.get(one))
    if different:
        was, found = str(recorded.get(different[0]))[:12], str(there.get(different[0]))[:12]
        return Found(name, "failed", f"{different[0]} was saved with sha256 {was}, and has {found}")
    return Found(name, "ok", f"{len(there)} files are what the run has saved")


def _in_our_names(folder: Path, digests: dict[str, str], recorded: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """
    The digests of a builtin folder as the run would have them, and tensors that do not follow from the run's.

    The built-in classes have rows and layers beyond ours, which the conversion derives (see `builtin_state`): they are
    derived again, and left out.
    """
    there, wrong = {}, []
    for theirs, digest in digests.items():
        ours = CLASSIC.to_ours(theirs) or theirs
        if ours in recorded:
            filled = ours in _TABLES and digest != recorded[ours] and _is_filled_up(folder, theirs, recorded[ours])
            there[ours] = recorded[ours] if filled else digest
        elif not _is_unread_layer(folder, theirs, ours, digest, recorded):
            wrong.append(theirs)
    return there, wrong


def _is_filled_up(folder: Path, name: str, recorded: str) -> bool:
    """Whether a table's first rows are the run's, and the others their mean."""
    kept = read_json(folder / "config.json").get("open_llava")
    rows = kept.get("vocab_size") if isinstance(kept, dict) else None
    table = _tensor(folder, name)
    if not isinstance(rows, int) or table.dim() != 2 or not 0 < rows < table.shape[0]:
        return False
    mean = mean_row(table[:rows]).float()
    is_mean = torch.allclose(table[rows:].float(), mean.expand(table.shape[0] - rows, -1), rtol=1e-2, atol=1e-6)
    return is_mean and tensor_digest(table[:rows]) == recorded


def _is_unread_layer(folder: Path, theirs: str, ours: str, digest: str, recorded: dict[str, str]) -> bool:
    """Whether it is a copy of the tower's last layer, or its last norm, neither of which is ever read."""
    layers = [int(match[2]) for name in recorded if (match := _TOWER_LAYER.fullmatch(name))]
    if (match := _TOWER_LAYER.fullmatch(ours)) and layers and int(match[2]) > max(layers):
        return recorded.get(f"{match[1]}{max(layers)}{match[3]}") == digest
    if ours in (f"{_LAST_NORM}weight", f"{_LAST_NORM}bias"):
        tensor = _tensor(folder, theirs)
        return bool((tensor == (1 if ours.endswith("weight") else 0)).all())
    return False


def _names(path: Path) -> list[str]:
    with safe_open(path, "pt") as file:
        return list(file.keys())


def _tensor(folder: Path, name: str) -> torch.Tensor:
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            if name in file.keys():  # noqa: SIM118 - a safetensors file is no dictionary
                return file.get_tensor(name)
    raise KeyError(name)


__all__ = ["check_weights"]
