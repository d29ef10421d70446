"""Data files to raw records: one bad line costs one record, a broken array says where it breaks."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from transformers_llava.data.records import readers as reading
from transformers_llava.data.records.readers import read_records


def write(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def test_an_array_is_read_element_by_element(tmp_path: Path):
    path = write(tmp_path, "a.json", ' [ {"id": 1} , 5, null, "é\\u00e9", [1, {"a": []}], 1.5e3 ]\n')
    assert [raw.record for raw in read_records(path)] == [{"id": 1}, 5, None, "éé", [1, {"a": []}], 1500.0]
    assert next(iter(read_records(path))).position == "element 0"


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("indent", [None, 2])
def test_where_the_file_is_cut_into_chunks_does_not_matter(tmp_path: Path, monkeypatch, chunk: int, indent):
    monkeypatch.setattr(reading, "_CHUNK", chunk)
    records = [{"id": n, "text": 'é\n"]},[' * n, "list": [1, -2.5, True, None], "数": {}} for n in range(6)] + [
        12345,
        6,
    ]
    path = write(tmp_path, "a.json", json.dumps(records, indent=indent, ensure_ascii=False))
    assert [raw.record for raw in read_records(path)] == records


@pytest.mark.parametrize("text", ["[]", " [ ] ", "\ufeff[]"])
def test_an_empty_array_has_no_records(tmp_path: Path, text: str):
    assert list(read_records(write(tmp_path, "a.json", text))) == []


@pytest.mark.parametrize("chunk", [5, 1 << 20])
@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('[{"id": 1},\n {"id": "ab', "the file ends inside element 1 .* at line 2, byte 20"),
        ('[{"id": 1},\n {"id": 2}', "the file ends in the middle, at line 2, byte 22"),
        (
            '[{"id": 1},\n {"id" 2}, {"id": 3}, {"id": 4, "text": "long enough to be behind it"}]',
            "in element 1, at line 2, byte 19",
        ),
        ('[{"id": 1}\n {"id": 2}]', "',' was expected, not '{', at line 2, byte 12"),
        ('["é", x]', "element 1"),
        ("", "the file ends in the middle, at line 1, byte 0"),
        ("<html>", r"'\[' was expected, not '<'"),
    ],
)
def test_a_broken_array_says_line_and_byte(tmp_path: Path, monkeypatch, text: str, where: str, chunk: int):
    monkeypatch.setattr(reading, "_CHUNK", chunk)
    with pytest.raises(ValueError, match=where):
        list(read_records(write(tmp_path, "a.json", text)))


def test_bytes_of_an_array_that_are_not_utf8_stay_recognisable(tmp_path: Path):
    records = [raw.record for raw in read_records(write(tmp_path, "a.json", b'[{"a": "x\xff"}, {"a": "\xc3\xa9"}]'))]
    assert records == [{"a": "x\udcff"}, {"a": "é"}]


def test_a_bad_line_costs_one_record(tmp_path: Path):
    path = write(tmp_path, "a.jsonl", b'\xef\xbb\xbf{"id": 1}\n{"id": \n\n"\xff"\r\n7\n{"id": 5}')
    raws = list(read_records(path))
    assert [raw.record for raw in raws] == [{"id": 1}, None, None, 7, {"id": 5}]
    assert [raw.error and raw.error.reason for raw in raws] == [None, "invalid_json", "invalid_utf8", None, None]
    assert [raw.position for raw in raws] == ["line 1", "line 2", "line 4", "line 5", "line 6"]
    assert "line 2 is not JSON" in str(raws[1].error)


def test_lines_in_a_file_called_json_are_read_as_lines(tmp_path: Path):
    assert [raw.record for raw in read_records(write(tmp_path, "a.json", '{"id": 1}\n{"id": 2}\n'))] == [
        {"id": 1},
        {"id": 2},
    ]


def test_a_parquet_table_is_read_row_by_row_without_its_nulls(tmp_path: Path):
    rows = [{"id": "a", "image": {"bytes": b"x", "path": "p"}}, {"id": "b", "image": None}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [raw.record for raw in read_records(tmp_path / "a.parquet")] == [rows[0], {"id": "b"}]
    write(tmp_path, "b.parquet", b"PAR1 no table")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        list(read_records(tmp_path / "b.parquet"))


def test_a_text_in_parquet_that_is_not_utf8_costs_one_record(tmp_path: Path):
    texts = pyarrow.array([b"a", b"\xff", b"c"]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"id": texts}), tmp_path / "a.parquet")
    raws = list(read_records(tmp_path / "a.parquet"))
    assert [raw.record for raw in raws] == [{"id": "a"}, None, {"id": "c"}]
    assert raws[1].error is not None
    assert (raws[1].error.reason, raws[1].position) == ("invalid_utf8", "row 1")


def test_what_would_exhaust_the_parser_is_an_error_of_the_file_or_line(tmp_path: Path):
    deep = "[" * 100_000
    with pytest.raises(ValueError, match="element 0 is nested too deeply, at line 1, byte 1"):
        list(read_records(write(tmp_path, "a.json", "[" + deep)))
    raws = list(read_records(write(tmp_path, "a.jsonl", f"{deep}\n{'9' * 5000}\n7\n")))
    assert [raw.error and raw.error.reason for raw in raws] == ["invalid_json", "invalid_json", None]


@pytest.mark.parametrize(("name", "message"), [("no.json", "does not exist"), ("a.csv", "ends in '.csv'")])
def test_a_file_that_cannot_be_read_at_all_is_refused(tmp_path: Path, name: str, message: str):
    write(tmp_path, "a.csv", "id\n1\n")
    with pytest.raises(ValueError, match=message):
        read_records(tmp_path / name)
