"""What `mof.yml` says of a publication: where each component is, and under which license."""

from pathlib import Path
from typing import Any

import yaml

from transformers_llava.artifacts.card_facts import CardFacts
from transformers_llava.artifacts.run_record.run_stages import RunRecord
from transformers_llava.hub.licenses.openness import write_openness
from transformers_llava.hub.licenses.statement import compose_licenses


def make_run(stage: str, license: str, **changes: Any) -> dict[str, Any]:
    base = {"role": "language_model", "name": "Qwen/Qwen2.5-7B-Instruct", "origin": "hub", "revision": "0" * 40}
    mixture = {"sources": [{"name": stage, "license": license}]}
    return {"stage": stage, "base_models": [base], "mixture": mixture, **changes}


def test_weights_and_the_data_of_every_stage_are_listed_with_their_own_licenses(tmp_path: Path) -> None:
    run = RunRecord.from_dict(make_run("instruct", "CC-BY-NC-4.0", previous=[make_run("align", "CC-BY-4.0")]))
    statement = compose_licenses(run, None, CardFacts())
    values = yaml.safe_load(write_openness(tmp_path, run, statement).read_text())
    listed = {one["name"]: one for one in values["components"]}
    assert listed["Model parameters (final)"]["license"] == "Apache-2.0"
    assert listed["Datasets"]["license"] == "CC-BY-4.0; CC-BY-NC-4.0"
    assert listed["Datasets"]["location"] == ["recipe/1_align.mixture.yaml", "recipe/2_instruct.mixture.yaml"]
    assert values["release"]["stages"] == ["1_align", "2_instruct"]
    assert values["statement"] == statement.summary
