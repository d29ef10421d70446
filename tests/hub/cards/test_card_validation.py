"""What the Hub would refuse a card for, found without a network."""

import pytest

from transformers_llava.hub.cards.validation import known_licenses, validate_card


def card(metadata: str) -> str:
    return f"---\n{metadata}\n---\n\n# A card\n"


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ("license: llama-2", "`license: llama-2` is none of the Hub's"),
        ("license: gpl-3.0-or-later", "is none of the Hub's"),
        ("base_model: ./output/align", "is no id of the Hub"),
        ("base_model: [ok/model, /home/me/model]", "/home/me/model` is no id"),
        ("datasets: [a/b/c]", "is no id of the Hub"),
        ("base_model: a/b\nbase_model_relation: child", "`base_model_relation: child` is none of adapter"),
        ("language: English", "`language: English` is no ISO 639 code"),
        ("tags: llava", "`tags` is no list"),
        ("model-index: [{results: []}]", "`model-index[0].name` is missing"),
        ("model-index: [{name: m}]", "`model-index[0].results` is missing"),
        (
            "model-index: [{name: m, results: [{task: {type: t}, dataset: {type: d}, metrics: [{type: acc}]}]}]",
            "`model-index[0].results[0].dataset.name` is missing",
        ),
        ("license: [", "the metadata is not YAML"),
        ("- a list", "the metadata has no fields"),
    ],
)
def test_a_card_that_the_hub_refuses_is_an_error_with_the_field_and_its_value(metadata: str, said: str) -> None:
    errors, _ = validate_card(card(metadata))
    assert any(said in error for error in errors), errors


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# No metadata\n", "the card has no metadata"),
        (card("license: other"), "should come with `license_name`"),
        (card("pipeline_tag: seeing"), "`pipeline_tag: seeing` is no task of the Hub"),
    ],
)
def test_what_the_hub_only_warns_of_is_no_error(text: str, said: str) -> None:
    errors, warnings = validate_card(text)
    assert errors == []
    assert any(said in warning for warning in warnings), warnings


def test_a_good_card_passes_without_a_word() -> None:
    metadata = (
        "license: llama2\nlibrary_name: transformers\npipeline_tag: image-text-to-text\nlanguage: [en]\n"
        "tags: [llava]\n"
        "base_model: [lmsys/vicuna-7b-v1.5]\nbase_model_relation: finetune\ndatasets: [me/captions]\n"
        "model-index: [{name: m, results: [{task: {type: t}, dataset: {type: d, name: D}, "
        "metrics: [{type: acc, value: 0}]}]}]"
    )
    assert validate_card(card(metadata)) == ([], [])


def test_the_list_of_licenses_has_those_that_llavas_have() -> None:
    assert {"apache-2.0", "llama2", "llama3", "llama3.1", "cc-by-nc-4.0", "other", "unknown"} <= set(known_licenses())
