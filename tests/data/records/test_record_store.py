"""What an older version kept of a parsed file is taken again only if this version would parse it alike."""

import hashlib
import json
from pathlib import Path

import pyarrow
import pytest

from tiny import make_image
from transformers_llava.data.records import record_store
from transformers_llava.data.records.record_formats import RecordRules
from transformers_llava.data.records.record_store import ParseRequest, parse_source


RECORDS = [
    {"id": "1", "image": "a.png", "conversations": [("human", "<image>\nWhat?"), ("gpt", "red")]},
    {"id": 2, "image": ["a.png", "a.png"], "conversations": [("human", "<image><image> Which?"), ("gpt", "both")]},
    {"id": "3", "conversations": [("human", "Hi"), ("gpt", "Hello"), ("human", "Bye"), ("gpt", "Bye")]},
    {"id": "4", "image": "a.png", "conversations": [("human", "no marker"), ("gpt", "x")]},
    {"id": "5", "image": "../a.png", "conversations": [("human", "<image> out"), ("gpt", "x")]},
    {"id": "6", "conversations": [("gpt", "first"), ("human", "second")]},
    {"id": "6", "conversations": [("human", ""), ("gpt", "")]},
    {"id": "7", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
]
# Raise PARSER_VERSION whenever this changes: digest of what the records above are parsed into, and of the report.
PARSED = (2, "f8a1f4f7b9d2740ed647d3b73303ad751a7b8cbd5352be30285d87edb050bc63")


def _write(folder: Path) -> Path:
    make_image().save(folder / "a.png")
    turns = [
        {**one, "conversations": [{"from": who, "value": text} for who, text in one["conversations"]]}
        if "conversations" in one
        else one
        for one in RECORDS
    ]
    (folder / "train.json").write_text(json.dumps(turns))
    return folder / "train.json"


def _digest(folder: Path) -> str:
    request = ParseRequest(RecordRules("toys", image_root=folder), str(_write(folder)))
    parsed = parse_source(request, strict=False, cache_dir=folder / "cache")
    table: pyarrow.Table = parsed.dataset.data.table
    rows = json.dumps(table.to_pylist(), sort_keys=True, default=str)
    report = json.dumps(parsed.report.to_dict(), sort_keys=True, default=str)
    return hashlib.sha256((rows + report).replace(str(folder), "FOLDER").encode()).hexdigest()


def test_the_version_is_raised_whenever_files_are_parsed_otherwise(tmp_path: Path) -> None:
    assert (record_store.PARSER_VERSION, _digest(tmp_path)) == PARSED


def test_another_version_takes_nothing_that_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = ParseRequest(RecordRules("toys", image_root=tmp_path), str(_write(tmp_path)))
    key = request.key()
    monkeypatch.setattr(record_store, "PARSER_VERSION", record_store.PARSER_VERSION + 1)
    assert request.key() != key
