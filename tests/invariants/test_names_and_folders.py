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
    ("cli/commands/convert", "conversion/convert"): "a command, and what it runs",
    **{
        (f"cli/commands/publications/{name}", path): "a command, and what it runs"
        for name, path in (
            ("publish", "hub/upload/publish"),
            ("reproduce", "hub/reproduction/reproduce"),
            ("verify", "hub/verification/verify"),
        )
    },
    (
        "conversion/configs/original",
        "conversion/weights/original",
    ): "the original layout: its configuration, its weights",
    ("demo/base_models/vision_tower", "modeling/vision/vision_tower"): "the vision tower: the demo's own, its code",
    ("demo/report/loss_curve", "hub/cards/loss_curve"): "losses drawn: as SVG in the demo's page, as PNG in a card",
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
    assert large == {}


def test_no_base_name_stands_for_two_ideas() -> None:
    files = _files_of_the_package()
    assert len(files) > 100
    shared = find_shared_names(files, SAME_IDEA)
    assert shared == {}


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
    files = [Path("cli/commands/publications/verify.py"), Path("hub/verification/verify.py"), Path("data/__init__.py")]
    assert find_shared_names(files, SAME_IDEA) == {}
    files.append(Path("data/verify.py"))
    assert find_shared_names(files, SAME_IDEA) == {
        "verify": ["cli/commands/publications/verify", "data/verify", "hub/verification/verify"]
    }
