"""Cards: what they hold, that they are valid, that what people wrote stays, and that committed ones are current."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tiny import make_image, make_model, make_processor
from transformers_llava.hub.card_facts import CardFacts, CardFactsError, read_card_facts
from transformers_llava.hub.card_validation import validate_card
from transformers_llava.hub.cards import CardError, generated_parts, merge_card, missing_fields, render_card
from transformers_llava.hub.evaluation_results import write_eval_results
from transformers_llava.hub.licences import compose_licences, lint_card
from transformers_llava.hub.stages import read_run
from transformers_llava.hub.stated_cards import render_stated_card


ROOT = Path(__file__).resolve().parents[2]
CARDS = sorted((ROOT / "hub_cards").glob("*/card.yaml"))
DEMO = ROOT / "hub_cards/tiny-llava"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the card of the demo is rendered from."""
    shutil.copytree(ROOT / "tests/fixtures/demo_run", tmp_path / "demo")
    shutil.copyfile(DEMO / "card.yaml", tmp_path / "demo/card.yaml")
    return tmp_path / "demo"


def render(folder: Path, repo_id: str = "tiny-llava", **options: bool) -> str:
    facts = read_card_facts(folder / "card.yaml")
    return render_card(folder, repo_id, facts, compose_licences(read_run(folder), None, facts), **options)


@pytest.mark.parametrize("path", CARDS, ids=[path.parent.name for path in CARDS])
def test_committed_cards_are_what_would_be_rendered_now_and_valid(path: Path, folder: Path) -> None:
    facts = read_card_facts(path)
    rendered = render_stated_card(facts, path.parent.name) if facts.recipes else render(folder)
    committed = (path.parent / "README.md").read_text()
    assert rendered == committed, "run `make cards`"
    errors, warnings = validate_card(committed)
    assert (errors, warnings) == ([], [])
    assert "More Information Needed" not in committed
    assert "not legal advice" in committed


def test_there_is_a_card_for_every_published_variant() -> None:
    variants = {f"llava-v1.5-{size}{kind}" for size in ("7b", "13b") for kind in ("", "-projector", "-lora")}
    assert {path.parent.name for path in CARDS} == variants | {"tiny-llava"}


def test_a_figure_that_is_not_ours_says_whose_it_is() -> None:
    facts = read_card_facts(ROOT / "hub_cards/llava-v1.5-7b/card.yaml")
    card = render_stated_card(facts, "llava-v1.5-7b")
    assert "| MME | score (perception) | 1510.7 |" in card
    assert card.count("the authors of LLaVA (<https://") == 12
    assert "not run by us" in card
    nameless = CardFacts(**{**vars(facts), "evaluation": [{"task": "GQA", "metric": "accuracy", "value": 99.0}]})
    with pytest.raises(ValueError, match=r"\['GQA'\] do not say who measured them"):
        render_stated_card(nameless, "x")


def test_the_card_has_mixture_settings_commands_results_and_components(folder: Path) -> None:
    card = render(folder)
    for text in (
        "| scenes | 4,000 | 45.9% | 58.9% | 4,000 | Apache-2.0 |",
        "| `learning_rate` | 0.003 | 0.002 |",
        "llava train --config 2_instruct.yaml --accelerate_config cpu --output_dir output/2_instruct",
        "| digits, with pictures | exact match | 0.98",
        "| multi_modal_projector | full | 33,024 | 33,024 |",
        "loss 3.464 at step 5, 0.433 at step 100",
        "llava verify tiny-llava",
    ):
        assert text in card
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["license"] == "apache-2.0"
    assert metadata["model-index"][0]["results"][0]["metrics"][0]["value"] > 0.9


def test_a_streamed_run_has_no_counts_and_says_so(folder: Path) -> None:
    run = read_run(folder)
    run["data"] = {"streaming": True, "sources": [{"name": "scenes"}], "dropped": {}}
    run["mixture_lock"] = None
    (folder / "run.json").write_text(json.dumps(run))
    card = render(folder)
    assert "read as a stream" in card
    assert "| scenes | not counted | not counted | not counted | not counted | Apache-2.0 |" in card


def test_a_gap_refuses_the_card_and_is_said_where_it_is_allowed(folder: Path) -> None:
    (folder / "evaluation.json").unlink()
    with pytest.raises(CardError, match=r"how well it answers \(evaluation\.json\).*--allow_incomplete"):
        render(folder)
    card = render(folder, allow_incomplete=True)
    assert "**Not said here:** how well it answers (evaluation.json)." in card
    bare = compose_licences(read_run(folder), None, CardFacts())
    assert len(missing_fields(folder, CardFacts(), bare)) == 5


def test_the_usage_of_the_card_runs(folder: Path, tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", render(folder), re.DOTALL)
    assert code is not None
    make_model().save_pretrained(tmp_path / "tiny-llava")
    make_processor().save_pretrained(tmp_path / "tiny-llava")
    make_image().save(tmp_path / "picture.png")
    done = subprocess.run([sys.executable, "-c", code[1]], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_people_wrote_stays_and_generated_parts_are_renewed(folder: Path) -> None:
    before = render(folder)
    edited = before.replace("license: apache-2.0", "license: apache-2.0\nthumbnail: picture.png")
    edited = edited.replace("# A tiny LLaVA", "# My model\n\nHello.").replace("## Citation", "## Cite")
    edited = edited.replace("<!-- llava:begin training -->", "My words.\n\n<!-- llava:begin training -->")
    merged = merge_card(edited, render(folder, "me/other"))
    assert "# My model\n\nHello." in merged
    assert "thumbnail: picture.png" in merged
    assert merged.index("My words.") < merged.index("<!-- llava:begin training -->")
    assert "## Citation" in merged  # inside a generated part edits do not stay
    assert "llava verify me/other" in merged
    assert generated_parts(merged) == generated_parts(render(folder, "me/other"))
    assert merge_card(merged, render(folder, "me/other")) == merged
    assert merge_card(None, before) == before


def test_a_part_that_is_new_or_gone_comes_and_goes(folder: Path) -> None:
    card = render(folder)
    without = re.sub(r"<!-- llava:begin evaluation -->.*?<!-- llava:end evaluation -->", "", card, flags=re.DOTALL)
    assert "## Evaluation" in merge_card(without, card)
    assert "## Evaluation" not in merge_card(card, without)


def test_a_card_of_somebody_else_follows_and_a_broken_marker_is_refused(folder: Path) -> None:
    card = render(folder)
    merged = merge_card("---\nlicense: mit\ntask: x\n---\nAll by hand.\n", card)
    assert merged.endswith("## From the card before\n\nAll by hand.\n")
    assert yaml.safe_load(merged.split("---")[1])["license"] == "apache-2.0"
    with pytest.raises(CardError, match="without its other half"):
        merge_card(card.replace("<!-- llava:end usage -->", ""), card)


def test_the_lint_of_a_rendered_card_finds_nothing(folder: Path) -> None:
    facts = read_card_facts(folder / "card.yaml")
    statement = compose_licences(read_run(folder), None, facts)
    assert lint_card(render(folder), statement, "tiny-llava") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("titel: x", r"\['titel'\]"),
        ("- a", "Known are"),
        ("tags: x", "`tags` takes a list"),
        ("a: [", "can not be read"),
    ],
)
def test_facts_that_would_have_no_effect_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "card.yaml").write_text(text)
    with pytest.raises(CardFactsError, match=message):
        read_card_facts(tmp_path / "card.yaml")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"license": "gpl-3.0-or-later"}, "`license: gpl-3.0-or-later` is none of the Hub's"),
        ({"base_model": "/home/me/vicuna"}, "is no id of the Hub"),
        ({"datasets": ["a/b/c"]}, "`datasets: a/b/c`"),
        ({"language": "English!"}, "no ISO 639 code"),
        ({"base_model_relation": "child"}, "none of adapter"),
        ({"tags": "llava"}, "no list of words"),
        ({"model-index": [{"name": "x"}]}, r"`model-index[0].results` is missing"),
        ({"model-index": [{"name": "x", "results": [{"metrics": [{}]}]}]}, "metrics[0].value"),
    ],
)
def test_what_the_hub_would_refuse_is_refused_here(metadata: dict, message: str) -> None:
    errors, _ = validate_card(f"---\n{yaml.safe_dump(metadata)}---\nText\n")
    assert any(message in error for error in errors), errors


def test_a_card_without_metadata_and_a_strange_task_are_warned_of() -> None:
    assert validate_card("Text")[1] == ["the card has no metadata (YAML between two lines of ---)"]
    assert "is no task of the Hub" in validate_card("---\npipeline_tag: magic\n---\n")[1][0]
    assert validate_card("---\n[: \n---\n")[0]


def test_results_on_a_data_set_of_the_hub_get_a_file_of_their_own(tmp_path: Path) -> None:
    ours = {"task": "POPE, adversarial", "metric": "F1", "value": 84.2, "dataset_id": "lmms-lab/POPE"}
    results = [{**ours, "measured_by": "this package, on these weights"}, {**ours, "measured_by": "somebody"}]
    (path,) = write_eval_results(tmp_path, results)
    assert path.name == "pope_adversarial.yaml"
    assert "lmms-lab/POPE" in path.read_text()
    assert json.dumps(yaml.safe_load(path.read_text()))
