"""A file is replaced whole, and what did not come to its end leaves the old one and nothing beside it."""

from pathlib import Path

import pytest

from transformers_llava.artifacts.atomic_write import write_atomically


def test_the_new_content_takes_the_place_of_the_old_one_alone(tmp_path: Path) -> None:
    for content in ("old", "one\r\ntwo", b"\xff"):
        assert write_atomically(tmp_path / "a.json", content) == tmp_path / "a.json"
    assert (tmp_path / "a.json").read_bytes() == b"\xff"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.json", "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "a.json", "\ud800")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(tmp_path / "folder", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "folder"]
    assert (tmp_path / "a.json").read_text() == "old"
