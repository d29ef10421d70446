"""Count the Python files of every folder, and find base names that stand for two ideas."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from invariants.source_tree import PACKAGE, ROOT, SOURCE


MOST_FILES = 12  # of Python in one folder, `__init__.py` among them
FOLDERS = ("src", "tests", "benchmarks", "examples")

# Base names that several files share, because they mean the same thing at several steps; each with its reason.
SAME_IDEA = {
    **{
        (f"cli/commands/{name}", place): "a command, and what it runs"
        for name, place in (
            ("convert", "conversion/convert"),
            ("publish", "hub/upload/publish"),
            ("reproduce", "hub/reproduction/reproduce"),
            ("verify", "hub/verification/verify"),
        )
    },
    ("cli/errors", "training/errors"): "what the package raises for a mistake of its user",
    (
        "conversion/configs/original",
        "conversion/weights/original",
    ): "the original layout: its configuration, its weights",
    ("conversion/weights/projector", "modeling/projector"): "the projector: its names in checkpoints, its code",
    (
        "conversion/configs/vision_tower",
        "conversion/weights/vision_tower",
        "demo/base_models/vision_tower",
        "modeling/vision_tower",
    ): "the vision tower: its configuration, its weights, the demo's own, its code",
    ("conversion/report", "hub/verification/report"): "what a command did or found, as it is printed",
    ("data/mixture/provenance", "training/provenance"): "where something comes from: data, and what was trained",
    ("demo/report/loss_curve", "hub/cards/loss_curve"): "losses drawn: as SVG in the demo's page, as PNG in a card",
}
# Exceedances of today, each an entry to be removed when its files are moved: folder -> files, or a base name.
STILL_TO_MOVE: dict[str, int] = {
    f"src/{PACKAGE}/artifacts": 14,
    f"src/{PACKAGE}/hub/verification": 13,
    f"src/{PACKAGE}/modeling": 21,
    f"src/{PACKAGE}/training": 17,
    "tests": 13,
    "tests/conversion": 20,
    "tests/data": 29,
    "tests/fake_hub": 15,
    "tests/hub": 32,
    "tests/modeling": 13,
    "tests/training": 25,
    "build": 2,
    "pack_probe": 2,
    "source": 2,
}


def find_large_folders(root: Path) -> dict[str, int]:
    """Folders with more than twelve Python files, and how many each has."""
    counts: dict[str, int] = defaultdict(int)
    for folder in FOLDERS:
        for path in (root / folder).rglob("*.py"):
            counts[path.parent.relative_to(root).as_posix()] += 1
    return {folder: count for folder, count in counts.items() if count > MOST_FILES}


def find_shared_names(files: Iterable[Path], same_idea: Iterable[tuple[str, ...]]) -> dict[str, list[str]]:
    """Base names of several files that are not all of one idea: base name -> the files."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in sorted(files):
        if path.stem not in ("__init__", "__main__"):
            places[path.stem].append(path.with_suffix("").as_posix())
    return {
        name: found
        for name, found in places.items()
        if len(found) > 1 and not any(set(found) <= set(group) for group in same_idea)
    }


def _files_of_the_package() -> list[Path]:
    return [path.relative_to(SOURCE / PACKAGE) for path in (SOURCE / PACKAGE).rglob("*.py")]


def test_no_folder_has_more_than_twelve_python_files() -> None:
    large = find_large_folders(ROOT)
    assert {folder: count for folder, count in large.items() if count > STILL_TO_MOVE.get(folder, 0)} == {}


def test_no_base_name_stands_for_two_ideas() -> None:
    files = _files_of_the_package()
    assert len(files) > 100
    shared = find_shared_names(files, SAME_IDEA)
    assert {name: found for name, found in shared.items() if len(found) > STILL_TO_MOVE.get(name, 0)} == {}


@pytest.mark.parametrize("group", SAME_IDEA, ids=lambda group: group[0])
def test_every_name_that_may_be_shared_is(group: tuple[str, ...]) -> None:
    files = {path.with_suffix("").as_posix() for path in _files_of_the_package()}
    assert len(group) > 1
    assert set(group) <= files


def test_a_planted_file_too_many_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "tests" / "planted"
    folder.mkdir(parents=True)
    for number in range(12):
        (folder / f"{number}.py").touch()
    assert find_large_folders(tmp_path) == {}
    (folder / "__init__.py").touch()
    assert find_large_folders(tmp_path) == {"tests/planted": 13}


def test_a_planted_name_is_found() -> None:
    files = [Path("cli/commands/verify.py"), Path("hub/verification/verify.py"), Path("data/__init__.py")]
    assert find_shared_names(files, SAME_IDEA) == {}
    files.append(Path("data/verify.py"))
    assert find_shared_names(files, SAME_IDEA) == {
        "verify": ["cli/commands/verify", "data/verify", "hub/verification/verify"]
    }
