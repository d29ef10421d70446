"""A run record that somebody else wrote: every field that a reader here meets is what it must be, or is named."""

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.hub.two_stages import shared_two_stages

from transformers_llava.artifacts.card_facts import CardFacts
from transformers_llava.artifacts.run_record.field_checks import FieldError
from transformers_llava.artifacts.run_record.record_file import read_checked_record
from transformers_llava.artifacts.run_record.record_schema import check_record
from transformers_llava.artifacts.run_record.recorded import RunRecordError
from transformers_llava.artifacts.run_record.run_stages import RunRecord, Stage
from transformers_llava.hub.cards import sections as card_parts
from transformers_llava.hub.cards.loss_curve import losses_of
from transformers_llava.hub.licenses.openness import write_openness
from transformers_llava.hub.licenses.statement import compose_licenses
from transformers_llava.hub.recipe_folder import recipe_texts


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return json.loads((shared_two_stages(tmp_path_factory.getbasetemp()) / "run.json").read_text())


def put(run: dict[str, Any], place: str, value: Any) -> None:
    """`put(run, "previous.0.stage", 5)`; a field that is to vanish gets `...`."""
    *path, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    target: Any = run
    for part in path:
        target = target[part]
    if value is ...:
        del target[last]
    else:
        target[last] = value


MALFORMED: list[tuple[str, Any, str]] = [
    ("stage", "x/../../../../victim", "stage"),
    ("stage", "..", "stage"),
    ("stage", "a\nb", "stage"),
    ("stage", 5, "stage"),
    ("previous.0.stage", "../../victim", "previous[0].stage"),
    ("previous", 5, "previous"),
    ("previous", {"0": {}}, "previous"),
    ("previous.0", [], "previous[0]"),
    ("previous.0.previous", [{}], "previous[0].previous"),
    ("previous.0.mixture", ..., "previous[0].mixture"),
    ("base_models.0.role", "../../../victim", "base_models[0].role"),
    ("base_models.0.role", "teacher", "base_models[0].role"),
    ("base_models.0.name", "me\ntouch evil", "base_models[0].name"),
    ("base_models.0.name", "", "base_models[0].name"),
    ("base_models.0.origin", "http", "base_models[0].origin"),
    ("base_models.0.revision", "../../x", "base_models[0].revision"),
    ("base_models.0.revision", ..., "base_models[0].revision"),
    ("base_models.0.digest", "12", "base_models[0].digest"),
    ("base_models", {"role": "checkpoint"}, "base_models"),
    ("previous.0.base_models.1.role", "language_model", "previous[0].base_models"),
    ("environment", ["torch"], "environment"),
    ("environment.torch", "2.0\n--index-url http://evil", "environment.torch"),
    ("environment", {"--index-url": "http"}, "a key of environment"),
    ("versions", 5, "versions"),
    ("versions.torch", None, "versions.torch"),
    ("hardware.cpu_threads", "1; touch evil", "hardware.cpu_threads"),
    ("hardware.cpu_threads", 10**9, "hardware.cpu_threads"),
    ("hardware.world_size", "2", "hardware.world_size"),
    ("hardware", [], "hardware"),
    ("configuration", [1], "configuration"),
    ("configuration.per_device_train_batch_size", "4", "configuration.per_device_train_batch_size"),
    ("configuration.gradient_accumulation_steps", True, "configuration.gradient_accumulation_steps"),
    ("configuration.chat_template", ["vicuna_v1"], "configuration.chat_template"),
    ("recipe", "seed", "recipe"),
    ("command", "llava 'train", "command"),
    ("command", ["llava"], "command"),
    ("mixture", [], "mixture"),
    ("mixture.sources", {"a": 1}, "mixture.sources"),
    ("mixture.sources.0", "toys", "mixture.sources[0]"),
    ("mixture.sources.0.name", 5, "mixture.sources[0].name"),
    ("mixture.sources.0.name", "../../victim", "mixture.sources[0].name"),
    ("mixture.sources.0.path", "../../private.json", "mixture.sources[0].path"),
    ("mixture.sources.0.path", "/etc/passwd.json", "mixture.sources[0].path"),
    ("mixture.sources.0.path", "a\\..\\b.json", "mixture.sources[0].path"),
    ("mixture.sources.0.path", "C:/b.json", "mixture.sources[0].path"),
    ("mixture.sources.0.path", "http://169.254.169.254/x.json", "mixture.sources[0].path"),
    ("mixture.sources.0.path", "hf://datasets/me/../../x", "mixture.sources[0].path"),
    ("mixture.sources.0.image_root", "../..", "mixture.sources[0].image_root"),
    ("mixture.sources.0.weight", "half", "mixture.sources[0].weight"),
    ("mixture.sources.0.weight", float("inf"), "mixture.sources[0].weight"),
    ("mixture.sources.0.num_examples", "ten", "mixture.sources[0].num_examples"),
    ("mixture.sources.0.parts", 5, "mixture.sources[0].parts"),
    ("mixture.sources.0.shell", "sh", "mixture.sources[0].shell"),
    ("mixture_lock", [], "mixture_lock"),
    ("mixture_lock.seed", ..., "mixture_lock.seed"),
    ("mixture_lock.sources.0", 5, "mixture_lock.sources[0]"),
    ("mixture_lock.sources.0.digest", None, "mixture_lock.sources[0].digest"),
    ("mixture_lock.lengths.rows_digest", ..., "mixture_lock.lengths.rows_digest"),
    ("loss_history", {"step": 1}, "loss_history"),
    ("loss_history.0.step", "1", "loss_history[0].step"),
    ("loss_history.0.loss", "nan", "loss_history[0].loss"),
    ("weights", ["model.safetensors"], "weights"),
    ("weights", {"../x.safetensors": "0" * 64}, "a key of weights"),
    ("weights", {"model.safetensors": "12"}, "weights.model.safetensors"),
    ("components.0.parameters", "many", "components[0].parameters"),
    ("progress.seconds", "long", "progress.seconds"),
    ("data.sources.0.num_used", "all", "data.sources[0].num_used"),
    ("chat_template", {"text": ""}, "chat_template"),
    ("schema_version", 2, "schema_version"),
    ("seed", "\ud800", "seed"),
    ("data.note", "\ud800", "no Unicode"),
]


@pytest.mark.parametrize(
    ("place", "value", "named"), MALFORMED, ids=[f"{p}-{i}" for i, (p, _, _) in enumerate(MALFORMED)]
)
def test_a_malformed_field_is_named(
    record: dict[str, Any], tmp_path: Path, place: str, value: Any, named: str
) -> None:
    run = copy.deepcopy(record)
    put(run, place, value)
    (tmp_path / "run.json").write_text(json.dumps(run))
    with pytest.raises(RunRecordError) as caught:
        read_checked_record(tmp_path)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["[]", "5", "null", "", "{", '{"a": ' * 500 + "1" + "}" * 500, "[" * 100_000, '{"configuration": 1}', "9" * 5000],
    ids=["list", "number", "null", "empty", "cut", "deep", "very deep", "thin", "long number"],
)
def test_what_is_no_record_is_refused_in_one_way(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunRecordError, match=r"run\.json"):
        read_checked_record(tmp_path)


def test_other_bytes_and_other_kinds_of_files_too(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(RunRecordError, match=r"is not JSON"):
        read_checked_record(tmp_path)
    (tmp_path / "run.json").unlink()
    (tmp_path / "run.json").mkdir()
    with pytest.raises(RunRecordError, match="cannot be read"):
        read_checked_record(tmp_path)


def test_a_stage_has_no_unsafe_name_whoever_made_it() -> None:
    assert Stage().name == "1_train"
    with pytest.raises(RunRecordError, match="cannot be a name"):
        _ = Stage(stage="../x").name


def places_of(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a document; of a list its first entry."""
    if place:
        yield place
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places_of(item, (*place, key))
    elif isinstance(value, list) and value:
        yield from places_of(value[0], (*place, 0))


def read_everything(values: dict[str, Any], folder: Path) -> None:
    """All that is made of a record without the weights beside it."""
    run, facts = RunRecord.from_dict(values), CardFacts()
    stages = run.stages
    texts = recipe_texts(run, lambda path: True)
    for text in texts.values():
        text.encode("utf-8")
    statement = compose_licenses(run, run.own.mixture_lock, facts)
    statement.write(folder)
    write_openness(folder, run, statement)
    card_parts.summary_part(facts, stages)
    card_parts.data_part(stages)
    card_parts.training_part(stages, facts, has_curve=True)
    card_parts.verification_part("me/x", stages)
    for stage in stages:
        losses_of(stage)


def test_no_reader_meets_what_the_door_has_let_in(record: dict[str, Any], tmp_path: Path) -> None:
    """Each place of a real record, replaced by values of every other kind: refused by name, or read to the end."""
    small = copy.deepcopy(record)
    for one in (small, *small["previous"]):
        one["environment"] = {"torch": "2.13.0"}
        one["loss_history"] = one["loss_history"][:2]
    small["mixture"]["sources"][0]["parts"] = [{"name": "a", "num_examples": 3, "teacher": "gpt-4"}]
    small["mixture"]["sources"][0]["filters"] = {"min_rounds": 1}
    values = (..., None, True, 5, -1, 0.5, "x", "", [], [5], {}, {"x": 5}, "two\nlines")
    cases = [(place, value) for place in places_of(small) for value in values]
    refused = read = 0
    for place, value in random.Random(0).sample(cases, 150):  # of some 6,000, which all passed once
        run = copy.deepcopy(small)
        target: Any = run
        for part in place[:-1]:
            target = target[part]
        if value is ...:
            del target[place[-1]]
        else:
            target[place[-1]] = value
        try:
            check_record(run)
        except FieldError:
            refused += 1
            continue
        read += 1
        try:
            read_everything(run, tmp_path)
        except Exception as error:
            raise AssertionError(f"{place} = {value!r} was let in, and then: {error!r}") from error
    assert refused > 20
    assert read > 20
