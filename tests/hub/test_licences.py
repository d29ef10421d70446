"""Compositions of licences, each with the verdict, the obligations and the reason that a reader gets."""

from pathlib import Path
from typing import Any

import pytest

from transformers_llava.hub.card_facts import CardFacts
from transformers_llava.hub.licence_terms import read_terms, table
from transformers_llava.hub.licences import DISCLAIMER, LicenceStatement, compose_licences, lint_card


VICUNA, QWEN, LLAMA_31, CLIP = (
    "lmsys/vicuna-7b-v1.5",
    "Qwen/Qwen2.5-7B-Instruct",
    "meta-llama/Llama-3.1-8B-Instruct",
    "openai/clip-vit-large-patch14-336",
)
CC_BY = {"name": "captions", "path": "x", "licence": "CC-BY-4.0", "provenance": "human"}
LLAMA_2_NOTICE = (
    "Llama 2 is licensed under the LLAMA 2 Community License, Copyright (c) Meta Platforms, Inc. All Rights Reserved."
)


def taught_by(terms: str | None) -> dict[str, Any]:
    return {**CC_BY, "name": "taught", "teacher": "T", "teacher_terms": terms}


def compose(language_model: str, *sources: dict[str, Any], facts: CardFacts | None = None) -> LicenceStatement:
    bases = [
        {"role": role, "name": name, "origin": "hub", "revision": "0" * 40, "digest": "ab"}
        for role, name in (("language_model", language_model), ("vision_tower", CLIP))
    ]
    run = {"stage": "instruct", "base_models": bases, "mixture": {"sources": list(sources)}}
    return compose_licences(run, None, facts or CardFacts())


# name, language model, sources, commercial use, the Hub's tag, what the explanation holds
TABLE: list[tuple[str, str, list[dict[str, Any]], str, str, str]] = [
    ("vicuna_alone", VICUNA, [CC_BY], "conditional", "llama2", "under the conditions listed"),
    (
        "vicuna_gpt4",
        VICUNA,
        [taught_by("OpenAI terms of use (2023-03-14)")],
        "unclear",
        "other",
        "compete with OpenAI",
    ),
    ("vicuna_nc", VICUNA, [{**CC_BY, "licence": "CC-BY-NC-4.0"}], "no", "other", "at least one part forbids it"),
    ("qwen_cc_by", QWEN, [CC_BY], "yes", "apache-2.0", "No declared part restricts"),
    ("qwen_nc_sa", QWEN, [{**CC_BY, "licence": "CC-BY-NC-SA-4.0"}], "no", "other", "captions"),
    ("llama31_cc_by", LLAMA_31, [CC_BY], "conditional", "llama3.1", "under the conditions listed"),
    ("llama3_cc_by", "meta-llama/Meta-Llama-3-8B", [CC_BY], "conditional", "llama3", "Llama 3"),
    ("unknown_data", QWEN, [{**CC_BY, "licence": None}], "unclear", "other", "nobody has stated a licence"),
    ("unknown_word", QWEN, [{**CC_BY, "licence": "unknown"}], "unclear", "other", "no licence is stated there"),
    ("unknown_model", "me/mine", [CC_BY], "unclear", "unknown", "nobody has stated a licence"),
    ("nonsense", QWEN, [{**CC_BY, "licence": "do what you want!"}], "unclear", "other", "no licence expression"),
    ("choice", QWEN, [{**CC_BY, "licence": "CC-BY-NC-4.0 OR CC-BY-4.0"}], "yes", "apache-2.0", "No declared part"),
    ("both", QWEN, [{**CC_BY, "licence": "CC-BY-NC-4.0 AND CC-BY-4.0"}], "no", "other", "forbids"),
    ("llama2_teaches_vicuna", VICUNA, [taught_by("Llama 2")], "conditional", "llama2", "may not improve"),
    ("llama2_teaches_qwen", QWEN, [taught_by("Llama 2")], "no", "other", "not allowed for this language model"),
    ("llama3_teaches_qwen", QWEN, [taught_by("Llama 3")], "no", "other", "not allowed for this language model"),
    ("llama31_teaches_qwen", QWEN, [taught_by("Llama 3.1")], "yes", "apache-2.0", "begins its name with Llama"),
    ("apache_teaches_qwen", QWEN, [taught_by("Apache-2.0")], "yes", "apache-2.0", "asks nothing of outputs"),
    ("teacher_without_terms", QWEN, [taught_by(None)], "unclear", "other", "no rule is known for these terms"),
]


@pytest.mark.parametrize(
    ("language_model", "sources", "commercial", "tag", "explained"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_compositions(
    language_model: str, sources: list, commercial: str, tag: str, explained: str, tmp_path: Path
) -> None:
    statement = compose(language_model, *sources)
    assert (statement.commercial, statement.hub_license) == (commercial, tag)
    statement.write(tmp_path)
    text = (tmp_path / "LICENSE.md").read_text()
    assert explained in text
    assert DISCLAIMER in text
    assert all(part.why for part in statement.parts)  # every verdict has its reason


def test_notices_names_and_obligations_are_collected(tmp_path: Path) -> None:
    compose(VICUNA, CC_BY).write(tmp_path)
    assert (tmp_path / "NOTICE").read_text() == LLAMA_2_NOTICE + "\n"
    assert "do not use outputs to improve other large language models" in (tmp_path / "LICENSE.md").read_text()
    statement = compose(LLAMA_31, CC_BY)
    assert (statement.name_prefixes, statement.displays) == (["Llama"], ["Built with Llama"])
    taught = compose(QWEN, taught_by("Llama 3.1"))
    assert (taught.name_prefixes, taught.displays, taught.notices) == (["Llama"], ["Built with Llama"], [])
    assert compose(QWEN, CC_BY).name_prefixes == []


def test_the_parts_of_a_source_are_asked_one_by_one() -> None:
    source = {
        **CC_BY,
        "licence": "mixed, see the parts",
        "parts": [
            {"name": "a", "num_examples": 1, "licence": "CC-BY-4.0", "images_licence": "Flickr terms of each picture"},
            {"name": "b", "num_examples": 1, "licence": "CC-BY-NC-4.0"},
        ],
    }
    statement = compose(QWEN, source)
    found = {(part.kind, part.name): part.commercial for part in statement.parts if part.kind != "component"}
    assert found == {("data", "a"): "yes", ("pictures", "a"): "unclear", ("data", "b"): "no"}


def test_a_publisher_states_what_a_part_does_not(tmp_path: Path) -> None:
    facts = CardFacts(licences={"me/mine": {"licence": "MIT", "evidence": "https://example.org/licence"}})
    statement = compose("me/mine", CC_BY, facts=facts)
    assert statement.commercial == "yes"
    (part,) = [part for part in statement.parts if part.name == "me/mine"]
    assert (part.why, part.evidence) == ("stated by the publisher", "https://example.org/licence")


def test_every_term_of_the_table_has_a_verdict_and_where_it_was_read() -> None:
    for name, term in table()["terms"].items():
        assert term["commercial"] in ("yes", "conditional", "unclear", "no"), name
        assert "url" in term or name == "LicenseRef-Unknown", name
    for component in table()["components"]:
        assert component["read"]
        assert read_terms(component["licence"]).problem is None


@pytest.mark.parametrize(
    ("card", "repo_id", "found"),
    [
        ("license: apache-2.0\n" + LLAMA_2_NOTICE, "me/llava", "its parts come to llama2"),
        ("license: llama2\n", "me/llava", "does not show 'Llama 2 is licensed"),
        ("license: llama2\n" + LLAMA_2_NOTICE, "me/llava", None),
    ],
)
def test_the_lint_compares_a_card_with_its_components(card: str, repo_id: str, found: str | None) -> None:
    problems = lint_card(card, compose(VICUNA, CC_BY), repo_id)
    assert problems == [] if found is None else any(found in problem for problem in problems)


def test_the_lint_asks_for_the_name() -> None:
    card = "license: llama3.1\nBuilt with Llama\n" + compose(LLAMA_31, CC_BY).notices[0]
    assert lint_card(card, compose(LLAMA_31, CC_BY), "me/Llama-llava") == []
    assert "does not begin with 'Llama'" in lint_card(card, compose(LLAMA_31, CC_BY), "me/llava")[0]
