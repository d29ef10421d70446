"""What is written is whole as soon as it exists, a file or a folder."""

from pathlib import Path

import pytest

from transformers_llava.data.cache import write_whole


def test_a_file_that_could_not_be_finished_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    def fail(unfinished: Path) -> None:
        unfinished.write_text("hal")
        raise OSError("no space left")

    write_whole(tmp_path / "a", lambda unfinished: unfinished.write_text("old"))
    with pytest.raises(OSError, match="no space left"):
        write_whole(tmp_path / "a", fail)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


def test_a_folder_appears_when_it_is_filled_and_of_two_the_first_stays(tmp_path: Path) -> None:
    def fill(unfinished: Path, text: str) -> None:
        unfinished.mkdir()
        (unfinished / "file").write_text(text)
        if text == "first":
            assert not (tmp_path / "folder").exists()

    write_whole(tmp_path / "folder", lambda unfinished: fill(unfinished, "first"))
    write_whole(tmp_path / "folder", lambda unfinished: fill(unfinished, "second"))
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert (tmp_path / "folder" / "file").read_text() == "first"


def test_a_folder_that_could_not_be_filled_is_not_there(tmp_path: Path) -> None:
    def fail(unfinished: Path) -> None:
        unfinished.mkdir()
        (unfinished / "file").touch()
        raise PermissionError("not yours")

    with pytest.raises(PermissionError):
        write_whole(tmp_path / "new" / "folder", fail)
    assert list((tmp_path / "new").iterdir()) == []
