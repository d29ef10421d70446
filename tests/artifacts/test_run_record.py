"""`run.json` as a value: what was read is written as it was read, and what a stage was made of is one question."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from transformers_llava.artifacts.run_record.base_model import BaseModel
from transformers_llava.artifacts.run_record.mixture_sources import Mixture, MixtureSource
from transformers_llava.artifacts.run_record.record_file import read_run_record, write_run_record
from transformers_llava.artifacts.run_record.recorded import RunRecordError
from transformers_llava.artifacts.run_record.run_stages import RunRecord, Stage


ROOT = Path(__file__).parents[2]
OLD: dict[str, Any] = {
    "later_field": {"x": [1]},
    "stage": None,
    "data": {"lengths": {"longest": 3}, "num_used": 2},
    "base_models": [{"role": "checkpoint", "name": "m", "weights_sha256": "0" * 64}],
    "mixture": {"sources": [{"path": "a.json", "name": "a", "weight": 2, "image_root": "images"}], "seed": 4},
    "mixture_lock": None,
    "previous": [{"stage": "align", "hardware": {"backend": {"name": "NO"}}}],
}


def test_a_record_with_fields_of_another_version_is_written_as_it_was_read() -> None:
    record = RunRecord.from_dict(OLD)
    assert json.dumps(record.to_dict()) == json.dumps(OLD)
    assert (record.own.data.num_used, record.own.hardware.world_size, record.own.versions) == (2, 1, {})
    assert [stage.name for stage in record.stages] == ["1_align", "2_train"]


def test_the_recorded_run_of_the_demo_goes_there_and_back() -> None:
    text = (ROOT / "tests/fixtures/demo_run/run.json").read_text()
    assert json.dumps(RunRecord.from_dict(json.loads(text)).to_dict()) == json.dumps(json.loads(text))


def test_a_changed_field_changes_nothing_beside_it() -> None:
    (source,) = RunRecord.from_dict(OLD).own.sources
    moved = replace(source, path="b.json", image_root=None, license="MIT")
    assert json.dumps(moved.to_dict()) == '{"path": "b.json", "name": "a", "weight": 2, "license": "MIT"}'
    assert source.with_paths(str.upper).paths == {"path": "A.JSON", "image_root": "IMAGES"}


def test_a_run_that_goes_on_writes_the_stages_before_as_they_were(tmp_path: Path) -> None:
    before = RunRecord.from_dict(OLD).stages
    mixture = Mixture(sources=(MixtureSource("a", path="/home/me/a.json"),))
    written = write_run_record(RunRecord((*before, Stage(stage="more", mixture=mixture, number=3))), tmp_path)
    values = json.loads((tmp_path / "run.json").read_text())
    assert values["previous"] == [OLD["previous"][0], {name: one for name, one in OLD.items() if name != "previous"}]
    assert (values["schema_version"], values["mixture"]["sources"][0]["path"]) == (1, "a.json")
    assert [stage.name for stage in read_run_record(tmp_path).stages] == ["1_align", "2_train", "3_more"]
    assert written.own.weights == {}


def test_a_checkpoint_is_the_output_of_the_stage_before_but_for_the_first_stage() -> None:
    checkpoint, tower = BaseModel("checkpoint", "m"), BaseModel("vision_tower", "t")
    first, second = (Stage(base_models=(checkpoint, tower), number=number) for number in (1, 2))
    assert [first.is_previous_output(base) for base in (checkpoint, tower)] == [False, False]
    assert [second.is_previous_output(base) for base in (checkpoint, tower)] == [True, False]
    assert (first.own_bases, second.own_bases) == ([checkpoint, tower], [tower])


@pytest.mark.parametrize(
    "changes",
    [{"previous": 5}, {"base_models": 5}, {"base_models": [5]}, {"base_models": [{}]}, {"data": []}],
    ids=str,
)
def test_what_has_not_the_form_of_a_record_is_no_record(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "run.json").write_text(json.dumps({**OLD, **changes}))
    with pytest.raises(RunRecordError, match="run record"):
        read_run_record(tmp_path)
