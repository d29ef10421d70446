"""
Seeded mutations of a publication: none raises, and none passes that changed what was checked.

`make test` makes the first 400 of 2,000, `make test-all` all of them.
"""

import json
import random
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tests.hub.publications import linked_copy, replace, restore, write_manifest_anew
from tests.hub.two_stages import shared_two_stages
from tests.hub.verification.mutations import mutate

from transformers_llava.hub.publication.manifest import Manifest, ManifestError, read_manifest
from transformers_llava.hub.publication.stage import stage_publication
from transformers_llava.hub.verification.findings import printable
from transformers_llava.hub.verification.verification_report import VerificationReport
from transformers_llava.hub.verification.verify import verify


NUM_MUTATIONS = 400
NUM_ALL_MUTATIONS = 2_000
NUM_BATCHES = 4


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One stage, and of its record what a publication needs: a check of all of it takes hundredths of a second."""
    align = shared_two_stages(tmp_path_factory.getbasetemp()).parent / "align"
    checkpoint = tmp_path_factory.mktemp("fuzz") / "align"
    shutil.copytree(align, checkpoint)
    run = json.loads((checkpoint / "run.json").read_text())
    kept = {"seed", "max_steps", "learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps"}
    run["configuration"] = {name: value for name, value in run["configuration"].items() if name in kept}
    run["environment"] = {"torch": run["environment"]["torch"]}
    (checkpoint / "run.json").write_text(json.dumps(run))
    folder = tmp_path_factory.mktemp("fuzz") / "small"
    stage_publication(checkpoint, "me/tiny", folder, self_contained=True, allow_incomplete=True)
    assert verify(folder, expected=read_manifest(folder).tag).passed
    return folder


@pytest.mark.parametrize("batch", range(NUM_BATCHES))
def test_no_mutation_raises_and_none_that_matters_passes(
    small: Path, tmp_path: Path, batch: int, exhaustive: bool
) -> None:
    num_mutations = NUM_ALL_MUTATIONS if exhaustive else NUM_MUTATIONS
    tag, digest = read_manifest(small).tag, read_manifest(small).digest
    passed, folder = 0, linked_copy(small, tmp_path / "copy")
    for seed in range(batch, num_mutations, NUM_BATCHES):
        rng = random.Random(seed)
        what = f"seed {seed}: {mutate(folder, rng)}"
        is_anew = rng.random() < 0.3 and _written_anew(folder, what)
        report = verify(folder, expected=None if is_anew else tag)
        text = str(report)
        assert text.encode("utf-8").decode("utf-8") == text
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text), what
        changed = [] if not report.passed else _changed(small, folder)
        if changed:
            passed += 1
            if is_anew:
                assert report.digest != digest, what  # so that a digest from elsewhere tells them apart
            unsaid = [name for name in changed if not _is_said_or_the_same(name, report, small, folder)]
            assert not unsaid, f"{what} passes, and nothing is said of {unsaid}:\n{report}"
        restore(small, folder)  # ten times as fast as another copy
    assert passed < num_mutations / NUM_BATCHES / 3


def _written_anew(folder: Path, what: str) -> bool:
    """As somebody who hides a change would: a manifest that is consistent over it, where one can be made."""
    try:
        if " manifest.json " in what:
            values = json.loads((folder / "manifest.json").read_text())
            manifest = Manifest(*(values[name] for name in ("layout", "repo_id", "files", "tensors", "incomplete")))
            replace(folder / "manifest.json", json.dumps(manifest.to_dict()))
        else:
            write_manifest_anew(folder)
    except Exception:  # what cannot be listed cannot be hidden
        return False
    return True


def _changed(before: Path, after: Path) -> list[str]:
    files = [
        {path.relative_to(one).as_posix(): path for path in one.rglob("*") if path.is_file()}
        for one in (before, after)
    ]
    shared = {name for name in files[0].keys() & files[1].keys() if _is_same(files[0][name], files[1][name])}
    return sorted((files[0].keys() | files[1].keys()) - shared - {"manifest.json"})


def _is_same(ours: Path, theirs: Path) -> bool:
    return ours.samefile(theirs) or ours.read_bytes() == theirs.read_bytes()


def _is_said_or_the_same(name: str, report: VerificationReport, before: Path, after: Path) -> bool:
    """
    The rule: a change passes only if the report names the file as skipped (unlisted and harmless; a user's words;
    covered by the manifest alone; not here), or if what is compared is the same: tensors, whatever their file;
    messages and images of the records, whatever their container.
    """
    skipped = {check.name: check.message for check in report.checks if check.status == "skipped"}
    if name == "README.md":
        return "words in README.md" in skipped
    shown = printable(name)
    if shown in skipped or shown in skipped["files that follow from nothing"].replace(",", " ").split():
        return True
    if not (after / name).is_file():  # gone: a base model is skipped by its role; nothing vouched for the others
        return name.startswith("recipe/bases/") or not _is_computed(name)
    if name.endswith(".safetensors"):
        return _same_tensors(before / name, after / name)
    return name.startswith("recipe/data/") and _records(before) == _records(after)


def _is_computed(name: str) -> bool:
    return name in ("LICENSE.md", "NOTICE", "mof.yml", "run.json") or name.startswith("recipe/")


def _same_tensors(before: Path, after: Path) -> bool:
    ours, theirs = load_file(before), load_file(after)
    return ours.keys() == theirs.keys() and all(bool((ours[name] == theirs[name]).all()) for name in ours)


def _records(folder: Path) -> list[Any]:
    """What was trained on: turns and bytes of images, without ids and paths."""
    with zipfile.ZipFile(folder / "recipe/data/toys/images.zip") as archive:
        return [
            (
                [(turn["from"], turn["value"]) for turn in record["conversations"]],
                archive.read(record["image"]) if "image" in record else None,
            )
            for record in json.loads((folder / "recipe/data/toys/train.json").read_bytes())
        ]


def test_a_copy_that_was_changed_is_restored(small: Path, tmp_path: Path) -> None:
    copy = linked_copy(small, tmp_path / "copy")
    whole = _listing(copy)
    replace(copy / "NOTICE", "other")
    replace(copy / "more/and/more.txt", "x")
    (copy / "LICENSE.md").unlink()
    (copy / "README.md").rename(copy / "more/README.md")
    (copy / "config.json").unlink()
    (copy / "config.json").symlink_to(small)
    shutil.rmtree(copy / "recipe/data")
    (copy / "recipe/data").symlink_to(small)
    assert _listing(copy) != whole
    restore(small, copy)
    assert _listing(copy) == whole == _listing(small)


def _listing(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_the_rule_can_fail(small: Path, tmp_path: Path) -> None:
    folder = linked_copy(small, tmp_path / "copy")
    replace(folder / "NOTICE", "other")
    report = verify(folder)
    assert not report.passed
    assert not _is_said_or_the_same("NOTICE", report, small, folder)
    assert _is_said_or_the_same("config.json", report, small, folder)
    assert _changed(small, folder) == ["NOTICE"]
    with pytest.raises(ManifestError):
        read_manifest(tmp_path)
