"""The recorded run of transformers' own tests: what it claims, and how it is made."""

import io
import json
import subprocess
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

from benchmarks.conformance import suite as fetching
from benchmarks.conformance.page import render
from benchmarks.conformance.run import PAGE, RESULTS, SUBJECTS, Result, compare


@pytest.fixture(scope="module")
def record() -> dict:
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def test_no_test_fails_with_our_classes_alone(record: dict) -> None:
    found = {(result["suite"], result["name"]): result for result in record["results"]}
    assert set(found) == {(subject.suite, subject.name) for subject in SUBJECTS}
    for subject in SUBJECTS:
        result = found[subject.suite, subject.name]
        assert result["passed"] > 15
        excused = {test for name in subject.beside for test in found[subject.suite, name]["failures"]}
        assert not subject.beside or set(result["failures"]) <= excused
        assert result["alone"] == []


def test_the_page_says_what_was_recorded(record: dict) -> None:
    assert PAGE.read_text(encoding="utf-8") == render(record)


def test_a_failure_counts_unless_a_class_beside_it_has_the_same() -> None:
    builtin = Result("models", "llava", [], failures={"test_a": "", "test_b": ""})
    ours = Result("models", "open_llava", ["llava"], failures={"test_b": "", "test_c": ""})
    compare([builtin, ours])
    assert (builtin.alone, ours.alone) == ([], ["test_c"])


def test_a_clone_is_completed_by_the_source_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mixins of exactly the installed version win over the clone's; nothing outside the folder is written."""
    clone = tmp_path / "clone"
    for name in ("tests/vlm_tester.py", "tests/test_modeling_common.py", "conftest.py", "utils/x.py"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text("of the clone")
    git = ["git", "-C", str(clone), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *arguments], check=True)
    commands: list[tuple[str, ...]] = []

    def pip(*arguments: str) -> None:
        commands.append(arguments)
        if arguments[0] == "install":
            return
        downloads = Path(arguments[arguments.index("--dest") + 1])
        downloads.mkdir(parents=True)
        name, _, number = arguments[-1].partition("==")
        with tarfile.open(downloads / f"{name}-{number}.tar.gz", "w:gz") as files:
            for path in ("tests/test_modeling_common.py", "src/transformers/__init__.py"):
                member = tarfile.TarInfo(f"{name}-{number}/{path}")
                member.size = 4
                files.addfile(member, io.BytesIO(b"pypi"))

    monkeypatch.setattr(fetching, "_pip", pip)
    half = tmp_path / "cache" / version("transformers") / "suite"  # what an earlier run without a clone made
    half.mkdir(parents=True)
    (half / "ORIGIN").write_text("nothing else")
    suite = fetching.prepare(tmp_path / "cache", clone)
    assert suite.has_models
    assert (suite.folder / "tests" / "test_modeling_common.py").read_text() == "pypi"
    assert (suite.folder / "tests" / "vlm_tester.py").read_text() == "of the clone"
    assert [command[0] for command in commands] == ["download", "install"]
    assert "a clone of the repository at" in suite.origin
    assert fetching.prepare(tmp_path / "cache").origin == suite.origin  # made once


def test_without_the_repository_the_processors_are_examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pip(*arguments: str) -> None:
        if arguments[-1].startswith("https://"):
            raise subprocess.CalledProcessError(1, "pip")
        if arguments[0] == "download":
            downloads = Path(arguments[arguments.index("--dest") + 1])
            downloads.mkdir(parents=True)
            number = arguments[-1].partition("==")[2]
            with tarfile.open(downloads / f"transformers-{number}.tar.gz", "w:gz") as files:
                files.addfile(tarfile.TarInfo(f"transformers-{number}/tests/test_processing_common.py"))

    monkeypatch.setattr(fetching, "_pip", pip)
    suite = fetching.prepare(tmp_path)
    assert not suite.has_models
    assert (suite.folder / "tests" / "test_processing_common.py").is_file()
    assert "could not be reached" in suite.origin
