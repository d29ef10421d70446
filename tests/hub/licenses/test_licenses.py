"""Declared licenses of base models, data and teachers: what they come to, and that every verdict is explained."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from transformers_llava.artifacts.card_facts import CardFacts
from transformers_llava.artifacts.run_record.run_stages import RunRecord
from transformers_llava.hub.licenses.statement import DISCLAIMER, LicenseStatement, compose_licenses, lint_card
from transformers_llava.hub.licenses.terms import VERDICTS, read_terms, table
from transformers_llava.packaged import list_packaged


MIXTURES = Path(__file__).parents[3] / "src" / "transformers_llava" / "mixtures"
CLIP = "openai/clip-vit-large-patch14-336"
VICUNA, LLAMA_3, LLAMA_31 = "lmsys/vicuna-7b-v1.5", "meta-llama/Meta-Llama-3-8B", "meta-llama/Llama-3.1-8B-Instruct"
QWEN, PRIVATE = "Qwen/Qwen2.5-7B-Instruct", "somebody/no-license"
CC_BY = {"name": "captions", "license": "CC-BY-4.0"}
CC_BY_NC = {"name": "captions", "license": "CC-BY-NC-4.0"}
GPT_4 = {**CC_BY, "teacher": "GPT-4", "teacher_terms": "OpenAI terms of use (2023-03-14)"}
LLAMA_2_TEACHER = {**CC_BY, "teacher": "Llama-2-70b-chat", "teacher_terms": "llama2"}
LLAMA_3_TEACHER = {**CC_BY, "teacher": "Meta-Llama-3-70B", "teacher_terms": "Llama 3 Community"}
LLAMA_31_TEACHER = {**CC_BY, "teacher": "Llama-3.1-405B", "teacher_terms": "llama3.1"}
QWEN_TEACHER = {**CC_BY, "teacher": "Qwen2.5-VL-7B", "teacher_terms": "Apache-2.0"}
UNSTATED_TEACHER = {**CC_BY, "teacher": "a friend's model"}


def make_run(language_model: str, *sources: dict[str, Any], **changes: Any) -> dict[str, Any]:
    bases = [{"role": "language_model", "name": language_model, "origin": "hub", "revision": "0" * 40}]
    bases.append({"role": "vision_tower", "name": CLIP, "origin": "hub", "revision": "1" * 40})
    return {"stage": "instruct", "base_models": bases, "mixture": {"sources": list(sources)}, **changes}


def compose(language_model: str, *sources: dict[str, Any]) -> LicenseStatement:
    return compose_licenses(RunRecord.from_dict(make_run(language_model, *sources)), None, CardFacts())


@pytest.mark.parametrize(
    ("language_model", "source", "commercial", "tag", "prefixes", "decided_by"),
    [
        pytest.param(VICUNA, CC_BY, "conditional", "llama2", [], [VICUNA], id="Vicuna + CC-BY"),
        pytest.param(VICUNA, GPT_4, "unclear", "other", [], ["GPT-4, who wrote captions"], id="Vicuna + GPT-4"),
        pytest.param(VICUNA, CC_BY_NC, "no", "other", [], ["captions"], id="Vicuna + CC-BY-NC"),
        pytest.param(QWEN, CC_BY, "yes", "apache-2.0", [], None, id="Qwen + CC-BY"),
        pytest.param(QWEN, GPT_4, "unclear", "other", [], ["GPT-4, who wrote captions"], id="Qwen + GPT-4"),
        pytest.param(LLAMA_31, CC_BY, "conditional", "llama3.1", ["Llama"], [LLAMA_31], id="Llama-3.1 + CC-BY"),
        pytest.param(LLAMA_3, CC_BY, "conditional", "llama3", ["Llama 3"], [LLAMA_3], id="Llama-3 + CC-BY"),
        pytest.param(PRIVATE, CC_BY, "unclear", "unknown", [], [PRIVATE], id="unknown language model"),
        pytest.param(QWEN, {"name": "mine"}, "unclear", "other", [], ["mine"], id="unknown data"),
        pytest.param(VICUNA, LLAMA_2_TEACHER, "conditional", "llama2", [], [VICUNA], id="Llama-2 teaches Vicuna"),
        pytest.param(QWEN, LLAMA_2_TEACHER, "no", "other", [], None, id="Llama-2 teaches Qwen"),
        pytest.param(QWEN, LLAMA_3_TEACHER, "no", "other", [], None, id="Llama-3 teaches Qwen"),
        pytest.param(LLAMA_3, LLAMA_3_TEACHER, "conditional", "llama3", ["Llama 3"], [LLAMA_3], id="Llama-3 itself"),
        pytest.param(QWEN, LLAMA_31_TEACHER, "yes", "apache-2.0", ["Llama"], None, id="Llama-3.1 teaches Qwen"),
        pytest.param(QWEN, QWEN_TEACHER, "yes", "apache-2.0", [], None, id="Qwen teaches Qwen"),
        pytest.param(QWEN, UNSTATED_TEACHER, "unclear", "other", [], None, id="unstated teacher"),
    ],
)
def test_the_strictest_part_decides_and_is_named(
    language_model: str,
    source: dict[str, Any],
    commercial: str,
    tag: str,
    prefixes: list[str],
    decided_by: list[str] | None,
) -> None:
    statement = compose(language_model, source)
    assert (statement.commercial, statement.hub_license, statement.name_prefixes) == (commercial, tag, prefixes)
    if decided_by is not None:
        assert [part.name for part in statement.parts if part.commercial == commercial] == decided_by
        assert all(name in statement.summary for name in decided_by)
    assert statement.summary.endswith(DISCLAIMER)
    for part in statement.parts:  # every verdict says where it comes from
        assert part.why, part
        assert part.commercial in VERDICTS
        assert part.commercial == "yes" or part.obligations, part


@pytest.mark.parametrize("teacher", [LLAMA_2_TEACHER, LLAMA_3_TEACHER])
def test_a_teacher_that_may_not_teach_this_student_is_a_problem_with_its_section(teacher: dict[str, Any]) -> None:
    statement = compose(QWEN, teacher)
    (problem,) = statement.problems
    assert "not allowed for this language model, section 1.b.v" in problem
    assert teacher["teacher"] in problem
    assert statement.notices == []  # we pass on nothing of the teacher's


def test_llama_2_asks_for_its_sentence_word_for_word() -> None:
    sentence = (
        "Llama 2 is licensed under the LLAMA 2 Community License, Copyright (c) Meta Platforms, Inc. "
        "All Rights Reserved."
    )
    assert compose(VICUNA, CC_BY).notices == [sentence]


def test_llama_3_1_and_what_it_taught_show_built_with_llama() -> None:
    assert compose(LLAMA_31, CC_BY).displays == ["Built with Llama"]
    assert compose(QWEN, LLAMA_31_TEACHER).displays == ["Built with Llama"]


@pytest.mark.parametrize(
    ("revision", "license", "commercial"), [("011f884", "CC-BY-NC-4.0", "no"), ("9d451dc", "CC-BY-4.0", "unclear")]
)
def test_the_same_data_set_has_the_license_of_its_revision(revision: str, license: str, commercial: str) -> None:
    source = {**GPT_4, "name": "LLaVA-Instruct", "license": license, "license_revision": revision}
    statement = compose(VICUNA, source)
    assert statement.commercial == commercial
    assert f"stated there at {revision}" in statement.table()


def test_images_have_a_license_of_their_own() -> None:
    statement = compose(QWEN, {**CC_BY, "images_license": "Flickr terms of each picture (COCO)"})
    found = [(part.kind, part.commercial) for part in statement.parts[-2:]]
    assert found == [
        ("data", "yes"),
        ("images", "unclear"),
    ]


def test_the_parts_of_a_source_are_asked_one_by_one() -> None:
    parts = [
        {"name": "a", "num_examples": 1, "license": "CC-BY-4.0", "images_license": "Flickr terms of each picture"},
        {"name": "b", "num_examples": 1, "license": "CC-BY-NC-4.0"},
    ]
    statement = compose(QWEN, {**CC_BY, "license": "mixed, see the parts", "parts": parts})
    found = {(part.kind, part.name): part.commercial for part in statement.parts if part.kind != "component"}
    assert found == {("data", "a"): "yes", ("images", "a"): "unclear", ("data", "b"): "no"}


@pytest.mark.parametrize(
    ("language_model", "source", "explained"),
    [
        pytest.param(VICUNA, CC_BY, "under the conditions listed", id="Vicuna"),
        pytest.param(VICUNA, CC_BY, "do not use outputs to improve other large language models", id="Llama 2 asks"),
        pytest.param(VICUNA, GPT_4, "compete with OpenAI", id="GPT-4"),
        pytest.param(VICUNA, CC_BY_NC, "at least one part forbids it", id="CC-BY-NC"),
        pytest.param(QWEN, {**CC_BY, "license": "CC-BY-NC-SA-4.0"}, "at least one part forbids it", id="CC-BY-NC-SA"),
        pytest.param(QWEN, CC_BY, "No declared part restricts", id="Qwen"),
        pytest.param(QWEN, {**CC_BY, "license": None}, "nobody has stated a license", id="unstated"),
        pytest.param(QWEN, {**CC_BY, "license": "unknown"}, "no license is stated there", id="stated unknown"),
        pytest.param(QWEN, {**CC_BY, "license": "do what you want!"}, "no license expression", id="nonsense"),
        pytest.param(VICUNA, LLAMA_2_TEACHER, "may not improve", id="Llama-2 teaches Vicuna"),
        pytest.param(QWEN, LLAMA_3_TEACHER, "not allowed for this language model", id="Llama-3 teaches Qwen"),
        pytest.param(QWEN, LLAMA_31_TEACHER, "begins its name with Llama", id="Llama-3.1 teaches Qwen"),
        pytest.param(QWEN, QWEN_TEACHER, "asks nothing of outputs", id="Qwen teaches Qwen"),
        pytest.param(QWEN, UNSTATED_TEACHER, "no rule is known for these terms", id="unstated teacher"),
    ],
)
def test_the_reason_stands_in_the_file_that_people_read(
    language_model: str, source: dict[str, Any], explained: str, tmp_path: Path
) -> None:
    compose(language_model, source).write(tmp_path)
    text = (tmp_path / "LICENSE.md").read_text()
    assert explained in text
    assert DISCLAIMER in text


def test_what_the_publisher_states_stands_where_the_part_says_nothing() -> None:
    facts = CardFacts(licenses={PRIVATE: {"license": "MIT", "evidence": "https://example.org/licence"}})
    statement = compose_licenses(RunRecord.from_dict(make_run(PRIVATE, CC_BY)), None, facts)
    part = statement.parts[0]
    assert (part.expression, part.why, part.evidence) == (
        "MIT",
        "stated by the publisher",
        "https://example.org/licence",
    )
    assert statement.commercial == "yes"


def test_a_folder_that_is_called_like_a_base_model_does_not_get_its_license() -> None:
    run = make_run(QWEN, CC_BY)
    run["base_models"][0]["origin"] = "folder"
    assert compose_licenses(RunRecord.from_dict(run), None, CardFacts()).parts[0].declared == "unknown"


def test_the_data_of_every_stage_count() -> None:
    run = make_run(QWEN, CC_BY, previous=[make_run(QWEN, {**CC_BY_NC, "name": "first"})])
    statement = compose_licenses(RunRecord.from_dict(run), None, CardFacts())
    assert statement.commercial == "no"
    assert "(first)" in statement.summary


@pytest.mark.parametrize(
    ("text", "expression", "commercial"),
    [
        ("Apache-2.0 OR CC-BY-NC-4.0", "Apache-2.0 OR CC-BY-NC-4.0", "yes"),
        ("Apache-2.0 AND CC-BY-NC-4.0", "Apache-2.0 AND CC-BY-NC-4.0", "no"),
        ("CC-BY-2.0 (Open Images)", "CC-BY-2.0", "yes"),
        ("cc-by-4.0", "CC-BY-4.0", "yes"),
        (None, "LicenseRef-Unknown", "unclear"),
        ("unknown: covers of books", "LicenseRef-Unknown", "unclear"),
        ("free for good people", "LicenseRef-Unknown", "unclear"),
        ("GPL-3.0-only", "GPL-3.0-only", "unclear"),
        ("llama3.2", "LicenseRef-Unknown", "unclear"),
        ("Llama 3.3 Community License", "LicenseRef-Unknown", "unclear"),
    ],
)
def test_a_statement_is_understood_or_unknown_and_never_taken_for_a_likely_one(
    text: str | None, expression: str, commercial: str
) -> None:
    terms = read_terms(text)
    assert (terms.expression, terms.commercial) == (expression, commercial)


@pytest.mark.parametrize(
    ("license", "said"),
    [("free for good people", "'free for good people'"), ("GPL-3.0-only", "there is no rule for GPL-3.0-only")],
)
def test_what_was_not_understood_is_said(license: str, said: str) -> None:
    (problem,) = compose(QWEN, {"name": "x", "license": license}).problems
    assert said in problem


def test_every_rule_has_evidence_and_every_component_a_rule() -> None:
    terms = table()["terms"]
    for key, term in terms.items():
        assert term["commercial"] in VERDICTS, key
        assert term.get("url") or key == "LicenseRef-Unknown", key
    for component in table()["components"]:
        assert component["license"] in terms
        assert component["url"].startswith("https://")
        assert component["read"], component
    assert {alias["license"] for alias in table()["aliases"]} <= set(terms)


@pytest.mark.parametrize("name", list_packaged("mixture"))
def test_every_license_of_the_packaged_mixtures_is_understood(name: str) -> None:
    mixture = yaml.safe_load((MIXTURES / f"{name}.yaml").read_text())
    for source in mixture["sources"]:
        for part in source.get("parts") or [source]:
            for field in ("license", "images_license", "teacher_terms"):
                if part.get(field):
                    assert read_terms(part[field]).problem is None, (part["name"], field)


def test_llava_1_5_is_unclear_because_of_gpt_4_and_of_images() -> None:
    mixtures = [
        yaml.safe_load((MIXTURES / f"{name}.yaml").read_text())
        for name in ("llava-v1.5-pretrain-558k", "llava-v1.5-mix665k")
    ]
    run = make_run(VICUNA, *(source for mixture in mixtures for source in mixture["sources"]))
    statement = compose_licenses(RunRecord.from_dict(run), None, CardFacts())
    assert (statement.commercial, statement.hub_license) == ("unclear", "other")
    assert statement.metadata() == {"license": "other", "license_name": "composite", "license_link": "LICENSE.md"}
    teachers = {part.name.partition(",")[0]: part.commercial for part in statement.parts if part.kind == "teacher"}
    assert teachers["GPT-4-0314"] == "unclear"


def test_notice_and_license_are_written_for_people(tmp_path: Path) -> None:
    paths = compose(LLAMA_31, GPT_4).write(tmp_path)
    assert [path.name for path in paths] == ["LICENSE.md", "NOTICE"]
    notice, license = (tmp_path / "NOTICE").read_text(), (tmp_path / "LICENSE.md").read_text()
    assert notice.splitlines() == [
        "Llama 3.1 is licensed under the Llama 3.1 Community License, Copyright © Meta Platforms, Inc. "
        "All Rights Reserved.",
        "Built with Llama",
    ]
    assert DISCLAIMER in license
    assert "begins with: Llama." in license
    assert "no models that compete with OpenAI" in license


def test_the_dictionary_holds_every_part_and_the_summary() -> None:
    values = compose(QWEN, GPT_4).to_dict()
    assert values["commercial"] == "unclear"
    assert [part["kind"] for part in values["parts"]] == ["component", "component", "data", "teacher"]
    assert values["summary"].endswith(DISCLAIMER)


def test_the_lint_finds_a_wrong_tag_a_wrong_name_and_a_missing_sentence() -> None:
    statement = compose(LLAMA_31, CC_BY)
    wrong = "---\nlicense: apache-2.0\n---\nMy model.\n"
    found = lint_card(wrong, statement, "me/my-llava")
    assert found[0] == "the card says `license: apache-2.0`, its parts come to llama3.1"
    assert "does not begin with 'Llama'" in found[1]
    assert [one for one in found if "Built with Llama" in one]
    right = "---\nlicense: llama3.1\n---\n" + "\n".join([*statement.displays, *statement.notices])
    assert lint_card(right, statement, "me/Llama-3.1-llava") == []


def test_the_lint_asks_for_llama_2s_tag_and_sentence() -> None:
    statement = compose(VICUNA, CC_BY)
    (sentence,) = statement.notices
    assert "its parts come to llama2" in lint_card("license: apache-2.0\n" + sentence, statement, "me/llava")[0]
    assert "does not show 'Llama 2 is licensed" in lint_card("license: llama2\n", statement, "me/llava")[0]
    assert lint_card("license: llama2\n" + sentence, statement, "me/llava") == []
