"""Compute again what follows from `run.json` (recipe, licenses, card), and name what follows from nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers_llava.artifacts.limits import MAX_YAML_BYTES
from transformers_llava.artifacts.old_spellings import text_with_new_spellings
from transformers_llava.artifacts.run_record.record_file import RUN_NAME
from transformers_llava.artifacts.run_record.run_stages import RunRecord
from transformers_llava.artifacts.untrusted import DocumentError, parse_yaml
from transformers_llava.hub.publication.documents import COMPUTED, check_documents, read_text
from transformers_llava.hub.publication.manifest import Manifest
from transformers_llava.hub.recipe_folder import BASES_FOLDER, DATA_FOLDER, RECIPE_FOLDER, recipe_texts
from transformers_llava.hub.verification.findings import Found, guarded, reason
from transformers_llava.hub.verification.present_files import PresentFiles


_SHOWN = 5  # fields that differ


def check_recomputed(folder: Path, run: RunRecord, manifest: Manifest, present: PresentFiles) -> Iterator[Found]:
    """What is generated from the run record, generated again: recipe, license statement, card."""
    try:
        texts = recipe_texts(run, lambda path: present.holds(f"{RECIPE_FOLDER}/{path}"))
    except Exception as error:  # such as a name of a stage that is part of no path
        yield Found(RUN_NAME, "failed", f"nothing can be recomputed from it: {reason(error)}")
        return
    yield from guarded("recipe", lambda: _check_recipe(folder, present, texts))
    yield from guarded("documents", lambda: check_documents(folder, run, manifest))
    yield _follows_from_nothing(manifest, texts)


def _check_recipe(folder: Path, present: PresentFiles, texts: dict[str, str]) -> Iterator[Found]:
    wrong = False
    for name, text in texts.items():
        place = f"{RECIPE_FOLDER}/{name}"
        try:
            there = text_with_new_spellings(read_text(folder / place)) if place in present.sizes else ""
        except DocumentError as error:
            wrong = True
            yield Found(place, "failed", str(error))
            continue
        if there != text:
            wrong = True
            yield Found(place, "failed", _differences(text, there, name))
    if not wrong:
        yield Found("recipe", "ok", f"{len(texts)} files say what {RUN_NAME} says")


def _differences(recorded: str, there: str, name: str) -> str:
    """Field by field where both are YAML or JSON; else the first line that differs."""
    if not there:
        return f"it is missing or empty, and {RUN_NAME} has it"
    if name.endswith((".yaml", ".json")) and max(len(recorded), len(there)) <= MAX_YAML_BYTES:
        anything = (dict, list, str, int, float, bool, type(None))
        try:
            fields = list(_fields(parse_yaml(recorded, name, kind=anything), parse_yaml(there, name, kind=anything)))
        except DocumentError as error:
            return f"it is not readable: {error}"
        if fields:
            more = f" and {len(fields) - _SHOWN} more" if len(fields) > _SHOWN else ""
            return "; ".join(fields[:_SHOWN]) + more
    for line, (was, now) in enumerate(zip(recorded.splitlines(), [*there.splitlines(), ""], strict=False), start=1):
        if was != now:
            return f"line {line} is {now[:200]!r}, and {RUN_NAME} gives {was[:200]!r}"
    return "it has lines that the run record does not give"


def _fields(recorded: Any, there: Any, path: str = "") -> Iterator[str]:
    if isinstance(recorded, dict) and isinstance(there, dict):
        for key in [*recorded, *(key for key in there if key not in recorded)]:
            yield from _fields(recorded.get(key), there.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(recorded, list) and isinstance(there, list) and len(recorded) == len(there):
        for index, (was, now) in enumerate(zip(recorded, there, strict=True)):
            yield from _fields(was, now, f"{path}[{index}]")
    elif recorded != there:
        yield f"{path}: {RUN_NAME} says {_short(recorded)}, the file says {_short(there)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _follows_from_nothing(manifest: Manifest, texts: dict[str, str]) -> Found:
    """
    Files that nothing is computed against. If somebody writes one of them and the manifest anew, only a digest from
    elsewhere shows it, so a pass must not be taken for more.
    """
    computed = {*COMPUTED, *(f"{RECIPE_FOLDER}/{name}" for name in texts)}
    elsewhere = (f"{RECIPE_FOLDER}/{DATA_FOLDER}/", f"{RECIPE_FOLDER}/{BASES_FOLDER}/")  # level 2 looks at these
    names = [
        name
        for name in manifest.files
        if name not in computed
        and not name.startswith(elsewhere[0])
        and not (name.endswith(".safetensors") and ("/" not in name or name.startswith(elsewhere[1])))
    ]
    return Found(
        "files that follow from nothing",
        "skipped",
        f"only the manifest's digest covers {', '.join(names[:40])}"
        + (f" and {len(names) - 40} more" if len(names) > 40 else ""),
    )


__all__ = ["check_recomputed"]
