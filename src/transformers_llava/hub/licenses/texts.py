"""Put the texts of licenses into a publication where they have to be passed on, and say which are missing."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from transformers_llava.artifacts.limits import MAX_LICENSE_FILE_BYTES, MAX_LICENSE_FILES
from transformers_llava.artifacts.local_paths import LocalPaths, read_local_paths
from transformers_llava.artifacts.run_record.base_model import BaseModel
from transformers_llava.artifacts.run_record.run_stages import RunRecord
from transformers_llava.hub.licenses.license_part import LicensePart
from transformers_llava.hub.licenses.terms import UNKNOWN, read_terms, table


LICENSE_FOLDER = "licenses"
_TEXTS = Path(__file__).parent / "license_texts"
_NAMES = re.compile(r"(?i)(?:licen[sc]e|copying|notice|use[_-]policy|acceptable[_-]use)[\w.-]*")
_LICENSES = re.compile(r"(?i)(?:licen[sc]e|copying)[\w.-]*")
_SUFFIXES = {"", ".txt", ".md", ".rst"}
_IN_CACHE = ("LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.txt", "NOTICE.md", "USE_POLICY.md")


@dataclass(frozen=True)
class TextsReport:
    """
    What became of the license texts of a publication.

    Args:
        present (`list[str]`): Files of it, sorted.
        missing (`list[str]`): One sentence for each text that is asked for and not there.
    """

    present: list[str]
    missing: list[str]


def copy_license_texts(run: RunRecord, parts: list[LicensePart], checkpoint: Path, folder: Path) -> list[str]:
    """
    Copies texts into `licenses/`: those beside the checkpoint, those of base models, and packaged ones.

    Args:
        run (`RunRecord`): The run record.
        parts (`list[LicensePart]`): Of its [`LicenseStatement`].
        checkpoint (`Path`): Its own `licenses/` goes along: what somebody has added by hand.
        folder (`Path`): The publication.

    Returns:
        `list[str]`: What was not copied, and why.
    """
    skipped = list(_copy_files(checkpoint / LICENSE_FOLDER, folder / LICENSE_FOLDER, by_hand=True))
    paths = read_local_paths(checkpoint) or [LocalPaths()] * len(run.stages)
    for stage, here in zip(run.stages, paths, strict=False):
        for base in stage.own_bases:
            target = folder / LICENSE_FOLDER / _slug(base.name)
            path = here.base_models.get(base.role)
            if base.origin == "hub":
                _copy_cached(base, target)
            elif path is not None and Path(path).is_dir():
                skipped += _copy_files(Path(path), target)
    write_packaged_texts(parts, folder)
    return skipped


def write_packaged_texts(parts: list[LicensePart], folder: Path) -> None:
    """The texts that this package has, for every base model that has not brought its own."""
    for part, key in _asked_for(parts):
        rule = table()["terms"].get(key, {})
        target = folder / LICENSE_FOLDER / _slug(part.name)
        if not rule.get("text") or _has_license(target):
            continue
        text = (_TEXTS / rule["text"]).read_text(encoding="utf-8")
        own = _copyright_of(part.name)
        if rule.get("own_copyright") and own is None:
            path = folder / LICENSE_FOLDER / rule["text"]
        else:
            path = target / "LICENSE.txt"
            text = f"{own}\n\n{text}" if own else text
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def check_license_texts(parts: list[LicensePart], folder: Path) -> TextsReport:
    """What a publication holds of the texts that its parts ask for."""
    root = folder / LICENSE_FOLDER
    present = sorted(path.relative_to(folder).as_posix() for path in root.rglob("*") if path.is_file())
    missing = []
    for part, key in _asked_for(parts):
        target = root / _slug(part.name)
        if _has_license(target):
            continue
        rule = table()["terms"].get(key, {})
        what = f"the text of {rule.get('title', key)}"
        if rule.get("text") and (root / rule["text"]).is_file():
            what = f"the copyright line of {rule.get('title', key)}"
        where = f" ({rule['url']})" if rule.get("url") else ""
        missing.append(
            f"{what} for {part.name} is not in this publication. It has to be passed on: put it beside the checkpoint "
            f"as `{LICENSE_FOLDER}/{_slug(part.name)}/LICENSE.txt`{where}."
        )
    return TextsReport(present, list(dict.fromkeys(missing)))


def _asked_for(parts: list[LicensePart]) -> Iterator[tuple[LicensePart, str]]:
    """Base models with a license whose text goes along; of licenses without a rule we cannot know that it does not."""
    for part in parts:
        if part.kind != "component":
            continue
        for key in read_terms(part.declared).keys:
            if key != UNKNOWN and ("text" in table()["terms"].get(key, {"text": None})):
                yield part, key


def _copyright_of(name: str) -> str | None:
    known: dict[str, str] = next((one for one in table()["components"] if name.startswith(one["id"])), {})
    return known.get("copyright")


def _has_license(target: Path) -> bool:
    return target.is_dir() and any(_LICENSES.fullmatch(path.name) for path in target.iterdir())


def _copy_files(source: Path, target: Path, *, by_hand: bool = False) -> Iterator[str]:
    """License files of a folder; with `by_hand` every text in it and below it."""
    if not source.is_dir():
        return
    found = sorted(source.rglob("*") if by_hand else source.glob("*"))
    found = [path for path in found if path.is_file() and (by_hand or _NAMES.fullmatch(path.name))]
    for number, path in enumerate(found):
        name = path.relative_to(source).as_posix()
        if path.suffix.lower() not in _SUFFIXES:
            yield f"{name} of {source.name} was not copied to {LICENSE_FOLDER}/: it is no text"
        elif path.stat().st_size > MAX_LICENSE_FILE_BYTES:
            yield f"{name} of {source.name} was not copied to {LICENSE_FOLDER}/: it has {path.stat().st_size:,} bytes"
        elif number >= MAX_LICENSE_FILES * (5 if by_hand else 1):
            yield f"{name} of {source.name} was not copied to {LICENSE_FOLDER}/: there are {len(found)} such files"
        else:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)


def _copy_cached(base: BaseModel, target: Path) -> None:
    """From the snapshot that training has used, where it holds them; nothing is fetched."""
    for name in _IN_CACHE:
        try:
            found = try_to_load_from_cache(base.name, name, revision=base.revision)
        except ValueError:  # no name of a repository
            return
        if isinstance(found, str) and Path(found).stat().st_size <= MAX_LICENSE_FILE_BYTES:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found, target / name)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "--", name).strip(".-") or "unnamed"


__all__ = ["LICENSE_FOLDER", "TextsReport", "check_license_texts", "copy_license_texts", "write_packaged_texts"]
