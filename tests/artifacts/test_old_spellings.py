"""Files with `licence:`, written before the field was called `license`, are still read, and it is said."""

import json
import logging
from pathlib import Path

import pytest

from transformers_llava.artifacts.card_facts import read_card_facts
from transformers_llava.artifacts.old_spellings import (
    document_with_new_spellings,
    text_with_new_spellings,
    with_new_spellings,
)
from transformers_llava.artifacts.run_record.record_file import read_checked_record, read_run_record
from transformers_llava.artifacts.run_record.recorded import RunRecordError
from transformers_llava.data.mixture.config import MixtureConfig
from transformers_llava.data.mixture.lock import compare_locks, read_lock
from transformers_llava.data.mixture.mixture_file import read_mixture_file


RECORDED_RUN = Path(__file__).parents[1] / "fixtures" / "demo_run"  # its sources say `licence`, on purpose
MIXTURE = """
sources:
- name: a
  path: a.json
  licence: MIT
  licence_url: https://example.org
  parts: [{name: p, num_examples: 3, licence: MIT, images_licence: unknown}]
  downloads: [{name: d, url: https://example.org, target: d, licence: CC0-1.0}]
"""


def test_only_fields_of_list_elements_are_renamed() -> None:
    values = {"environment": {"licence": "1.0"}, "sources": [{"licence": "MIT", "parts": [{"images_licence": "x"}]}]}
    assert with_new_spellings(values, "x") == {
        "environment": {"licence": "1.0"},
        "sources": [{"license": "MIT", "parts": [{"images_license": "x"}]}],
    }
    assert values["sources"][0]["licence"] == "MIT"


def test_a_text_is_the_one_of_today() -> None:
    text = '- name: a\n  licence: the MIT licence\n- licence_url: x\n  "images_licence": "y",\n'
    assert text_with_new_spellings(text) == (
        '- name: a\n  license: the MIT licence\n- license_url: x\n  "images_license": "y",\n'
    )


@pytest.mark.parametrize(
    "name",
    [
        "https://example.org/licence",
        "[card](https://example.org/a?picture=1)",
        "`org/licence-mit`",
        "org/my_pictures",
        "a-licence",
        "licence-a",
        "picture_b",
        "sub.licence.org",
        "me@licence",
    ],
)
def test_names_and_addresses_in_a_document_have_no_older_spelling(name: str) -> None:
    """Else a card could lead to another repository than its run record, and verify."""
    assert document_with_new_spellings(f"See {name} here") == f"See {name} here"


def test_words_of_a_document_are_those_of_today() -> None:
    old = "## Licence\n| pictures | licence | (licences),\n<!-- llava:begin licence -->\nlicence: mit\n"
    new = "## License\n| images | license | (licenses),\n<!-- llava:begin license -->\nlicence: mit\n"
    assert document_with_new_spellings(old) == new
    assert document_with_new_spellings(new) == new


def test_a_mixture_file_of_before_is_read_and_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "mixture.yaml").write_text(MIXTURE)
    with caplog.at_level(logging.INFO):
        (source,) = read_mixture_file(tmp_path / "mixture.yaml").sources
    assert (source.license, source.license_url) == ("MIT", "https://example.org")
    assert (source.parts[0].license, source.parts[0].images_license) == ("MIT", "unknown")
    assert source.downloads[0].license == "CC0-1.0"
    assert "source 'a' has 5 fields of an older spelling" in caplog.text
    assert "`licence` as `license`" in caplog.text


def test_both_spellings_in_one_place_are_refused() -> None:
    with pytest.raises(ValueError, match="source 'a' has both `licence` and `license`"):
        MixtureConfig([{"name": "a", "path": "a.json", "licence": "MIT", "license": "MIT"}])


def test_a_lock_of_before_is_the_lock_of_today(tmp_path: Path) -> None:
    lock = json.loads((RECORDED_RUN / "run.json").read_text())["mixture_lock"]
    assert "licence" in lock["sources"][0]
    (tmp_path / "old.json").write_text(json.dumps(lock))
    (tmp_path / "new.json").write_text(json.dumps(lock).replace("licence", "license"))
    assert compare_locks(read_lock(tmp_path / "old.json"), read_lock(tmp_path / "new.json")) == []
    lock["sources"][0]["license"] = "MIT"
    (tmp_path / "old.json").write_text(json.dumps(lock))
    with pytest.raises(ValueError, match="has both `licence` and `license`"):
        read_lock(tmp_path / "old.json")


def test_a_run_record_of_before_is_read_with_the_stages_before_it(tmp_path: Path) -> None:
    run = read_checked_record(RECORDED_RUN).to_dict()
    assert {source["license"] for source in run["mixture"]["sources"]} == {"Apache-2.0", "CC-BY-4.0"}
    assert all("license" in source for source in run["previous"][0]["data"]["sources"])
    assert '"licence' not in json.dumps(run)  # only in `command`, the line that was typed
    assert read_run_record(RECORDED_RUN).to_dict() == run
    run["mixture"]["sources"][0]["licence"] = "MIT"
    (tmp_path / "run.json").write_text(json.dumps(run))
    with pytest.raises(RunRecordError, match="both `licence` and `license`"):
        read_checked_record(tmp_path)


def test_card_facts_of_before_are_read_and_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "card.yaml").write_text("licences: {language_model: {licence: MIT, evidence: x}, vision_tower: MIT}")
    with caplog.at_level(logging.INFO):
        facts = read_card_facts(tmp_path / "card.yaml")
    assert facts.licenses == {
        "language_model": {"license": "MIT", "evidence": "x"},
        "vision_tower": {"license": "MIT"},
    }
    assert "'card.yaml': `licences` is read as `licenses`" in caplog.text
    assert "`licences.language_model`" not in caplog.text
    assert "`licenses.language_model`: `licence` is read as `license`" in caplog.text
