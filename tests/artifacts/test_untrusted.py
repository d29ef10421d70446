"""Documents and names that somebody else wrote."""

import os
from pathlib import Path

import pytest

from transformers_llava.artifacts.limits import MAX_JSON_BYTES
from transformers_llava.artifacts.untrusted import (
    DocumentError,
    checked_name,
    parse_json,
    parse_yaml,
    path_inside,
    read_json,
    read_yaml,
)


ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [*{old},*{old},*{old},*{old},*{old},*{old},*{old},*{old},*{old}]\n"
    for old, new in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[1, 2]", "a mapping is expected"),
        ("5", "a mapping is expected"),
        ('{"a": ' * 100_000, "not JSON"),
        ('{"a": ' * 80 + "1" + "}" * 80, "nested more than 64"),
        (b"\xff\xfe{}", "not JSON"),
    ],
)
def test_what_is_no_json_document_is_refused_with_its_name(text: str | bytes, message: str) -> None:
    with pytest.raises(DocumentError, match=message) as raised:
        parse_json(text, "run.json")
    assert "'run.json'" in str(raised.value)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ALIASES, "aliases"),
        ("a: &a [*a]", "not YAML.*contains itself"),
        ("[" * 3000, "not YAML"),
        ("a: !!python/object/apply:os.system [id]", "not YAML"),
        ("a: 2026-13-45", "not YAML"),
        ("- 1", "a mapping is expected"),
        (b"\xff", "not YAML"),
        ("a: [1", "not YAML"),
        ("? [a]\n: b", "not YAML"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_its_name(text: str | bytes, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        parse_yaml(text, "recipe.yaml")


def test_plain_documents_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: &b {x: 1}\nother: {<<: *b, y: 2}\n")
    (tmp_path / "a.json").write_text('{"x": [1, 2]}')
    (tmp_path / "empty.yaml").write_text("")
    assert read_yaml(tmp_path / "a.yaml") == {"base": {"x": 1}, "other": {"x": 1, "y": 2}}
    assert read_json(tmp_path / "a.json") == {"x": [1, 2]}
    assert read_yaml(tmp_path / "empty.yaml", kind=(dict, type(None))) is None


def test_a_missing_file_is_missing_and_a_folder_or_a_large_file_is_a_document_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")
    with pytest.raises(DocumentError, match="cannot be read"):
        read_json(tmp_path)
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(MAX_JSON_BYTES + 1)
    with pytest.raises(DocumentError, match="larger than 64 MiB"):
        read_json(tmp_path / "large.json")


@pytest.mark.parametrize(
    "value", ["", ".", "..", "../x", "a/b", "a\\b", ".ssh", "a.", "x\n", "a b", 5, None, "x" * 101, "é"]
)
def test_what_can_be_no_name_is_refused(value: object) -> None:
    with pytest.raises(DocumentError, match="the stage is"):
        checked_name(value, "the stage")


def test_a_name_is_a_name() -> None:
    assert [checked_name(one, "x") for one in ("1_align", "v1.5-7b")] == ["1_align", "v1.5-7b"]


@pytest.mark.parametrize(
    "value", ["", "/etc/passwd", "../x", "a/../../x", "C:/x", "a\\..\\x", "x\0", "out/x", None, 3, "."]
)
def test_a_path_stays_inside(value: object, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    os.symlink(tmp_path, tmp_path / "root" / "out")
    with pytest.raises(DocumentError, match="the file is"):
        path_inside(tmp_path / "root", value, "the file")


def test_a_path_inside_is_joined(tmp_path: Path) -> None:
    assert path_inside(tmp_path, "data/a.json", "the file") == tmp_path / "data" / "a.json"
