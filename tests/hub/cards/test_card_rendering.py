"""Cards: what they hold, that they are valid, that what people wrote stays, and that committed ones are current."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tiny import make_image, make_model, make_processor
from transformers_llava.artifacts.card_facts import CardFacts, CardFactsError, read_card_facts
from transformers_llava.artifacts.run_record.record_file import read_checked_record
from transformers_llava.artifacts.run_record.run_stages import RunRecord
from transformers_llava.hub.cards.loss_curve import draw_curves, losses_of
from transformers_llava.hub.cards.merge import CardError, generated_parts, merge_card
from transformers_llava.hub.cards.render import missing_fields, render_card
from transformers_llava.hub.cards.results import write_eval_results
from transformers_llava.hub.cards.sections import usage_part
from transformers_llava.hub.cards.stated import render_stated_card, stated_run
from transformers_llava.hub.cards.validation import validate_card
from transformers_llava.hub.licenses.statement import compose_licenses, lint_card
from transformers_llava.hub.licenses.texts import check_license_texts, write_packaged_texts


ROOT = Path(__file__).resolve().parents[3]
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
    run = read_checked_record(folder)
    return render_card(folder, repo_id, run, facts, compose_licenses(run, None, facts), **options)


@pytest.mark.parametrize("path", CARDS, ids=[path.parent.name for path in CARDS])
def test_committed_cards_are_what_would_be_rendered_now_and_valid(path: Path, folder: Path) -> None:
    facts = read_card_facts(path)
    rendered = render_stated_card(facts, path.parent.name) if facts.recipes else render(folder)
    committed = (path.parent / "README.md").read_text()
    assert rendered == committed, "run `make cards`"
    if facts.recipes:
        statement = compose_licenses(stated_run(facts.recipes), None, facts)
        write_packaged_texts(statement.parts, folder)
        statement.write(folder, check_license_texts(statement.parts, folder))
        names = {"LICENSE.md", "NOTICE", "licenses/openai--clip-vit-large-patch14-336/LICENSE.txt"}
        there = {str(one.relative_to(path.parent)) for one in path.parent.rglob("*") if one.is_file()}
        assert there == names | {"README.md", "card.yaml"}
        assert all((folder / name).read_text() == (path.parent / name).read_text() for name in names), (
            "run `make cards`"
        )
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
    (index,) = metadata["model-index"]
    assert index["results"][0]["metrics"][0]["value"] > 0.9
    named = [(one["dataset"]["type"], one["dataset"]["name"]) for one in index["results"]]
    assert ("demo/digits", "digits, without pictures, a control") in named  # not merged with the other result
    assert len({name for _, name in named}) == len(named)


def test_a_streamed_run_has_no_counts_and_says_so(folder: Path) -> None:
    run = json.loads((folder / "run.json").read_text())
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
    run = read_checked_record(folder)
    assert len(missing_fields(folder, run, CardFacts(), compose_licenses(run, None, CardFacts()))) == 5


def test_the_usage_of_the_card_runs(folder: Path, tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", render(folder), re.DOTALL)
    assert code is not None
    make_model().save_pretrained(tmp_path / "tiny-llava")
    make_processor().save_pretrained(tmp_path / "tiny-llava")
    make_image().save(tmp_path / "image.png")
    done = subprocess.run([sys.executable, "-c", code[1]], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_people_wrote_stays_and_generated_parts_are_renewed(folder: Path) -> None:
    before = render(folder)
    edited = before.replace("license: apache-2.0", "license: apache-2.0\nthumbnail: image.png")
    edited = edited.replace("# A tiny LLaVA", "# My model\n\nHello.").replace("## Citation", "## Cite")
    edited = edited.replace("<!-- llava:begin training -->", "My words.\n\n<!-- llava:begin training -->")
    merged = merge_card(edited, render(folder, "me/other"))
    assert "# My model\n\nHello." in merged
    assert "thumbnail: image.png" in merged
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
    statement = compose_licenses(read_checked_record(folder), None, facts)
    assert lint_card(render(folder), statement, "tiny-llava") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("titel: x", r"\['titel'\]"),
        ("- a", "holds .*'a'.* where a mapping"),
        ("a: [", "cannot be read.*is not YAML"),
        ("tags: x", "'card.yaml': `tags` takes a list, and has 'x'"),
        ("tags: [x, 5]", r"`tags\[1\]` takes text, and has 5"),
        ("title: [x]", r"`title` takes text, and has \['x'\]"),
        ("prompt:", "`prompt` takes text, and has nothing"),
        ("layout: own", "`layout` takes builtin or open_llava, and has 'own'"),
        ("licenses: [x]", r"`licenses` takes names .*language_model: MIT.*has \['x'\]"),
        ("licenses: MIT", "`licenses` takes names .*has 'MIT'"),
        ("licenses: {language_model: 4}", "`licenses.language_model` takes a license, .*has 4"),
        ("licenses: {language_model: {name: MIT}}", r"`licenses.language_model` has \['name'\]"),
        ("licenses: {language_model: {evidence: x}}", "`licenses.language_model` states no license"),
        ("licenses: {language_model: ' '}", "`licenses.language_model` states no license"),
        ("licenses: {x: {licence: MIT, license: MIT}}", "has both `licence` and `license`"),  # the old spelling
        ("evaluation: x", "`evaluation` takes a list"),
        ("evaluation: [x]", r"`evaluation\[0\]` has 'x' where a result is expected"),
        ("evaluation: [{metric: m, value: 1}]", r"`evaluation\[0\]` has no `task`"),
        ("evaluation: [{task: t}]", "has no `metric`, `value`"),
        (
            "evaluation: [{task: t, metric: m, value: high}]",
            r"`evaluation\[0\]`: `value` takes a number, and has 'high'",
        ),
        ("evaluation: [{task: t, metric: m, value: .nan}]", "`value` takes a number, and has nan"),
        ("evaluation: [{task: t, metric: m, value: 1, source: 5}]", "`source` takes text, and has 5"),
        ("evaluation: [{task: t, metric: m, value: 1, num_examples: many}]", "`num_examples` takes a count"),
        ("evaluation: [{task: t, metric: m, value: 1, measured-by: us}]", r"has \['measured-by'\]. Known are dataset"),
    ],
)
def test_facts_that_would_have_no_effect_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "card.yaml").write_text(text)
    with pytest.raises(CardFactsError, match=message):
        read_card_facts(tmp_path / "card.yaml")


def test_facts_may_be_written_as_one_would(tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(
        "licenses:\n  language_model: MIT\n  vision_tower: {license: Apache-2.0, evidence: https://x.org}\n"
    )
    facts = read_card_facts(path)
    assert facts.licenses == {
        "language_model": {"license": "MIT"},
        "vision_tower": {"license": "Apache-2.0", "evidence": "https://x.org"},
    }
    path.write_text("")
    assert read_card_facts(path) == CardFacts()
    with pytest.raises(CardFactsError, match=r"cannot be read.*nowhere\.yaml"):
        read_card_facts(tmp_path / "nowhere.yaml")


def test_a_license_for_nothing_is_a_problem_and_not_silent(folder: Path) -> None:
    statement = compose_licenses(
        read_checked_record(folder), None, CardFacts(licenses={"langauge_model": {"license": "MIT"}})
    )
    assert any("'langauge_model', which is nothing of this model: " in one for one in statement.problems)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "evaluation.json' holds .* where a mapping is expected"),
        ("{", "evaluation.json' is not JSON"),
        ("{}", "'evaluation.json' has no list `tasks`"),
        ('{"tasks": {"a": 1}}', "'evaluation.json' has no list `tasks`"),
        ('{"tasks": ["x"]}', r"'evaluation.json': `tasks\[0\]` has 'x'"),
        ('{"tasks": [{"metric": "m", "value": 1}]}', r"'evaluation.json': `tasks\[0\]` has no `task`"),
        ('{"tasks": [{"task": "t", "metric": "m", "value": NaN}]}', "`value` takes a number"),
    ],
)
def test_an_evaluation_that_is_none_is_refused_with_its_file_and_field(folder: Path, text: str, message: str) -> None:
    (folder / "evaluation.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        render(folder)


def test_the_prompt_of_the_example_is_python_whatever_it_says(folder: Path) -> None:
    for prompt in ('What does "STOP" mean?', "a\\b\nc", "it's", "```", "{x}", "\u00fc"):
        facts = CardFacts(prompt=prompt)
        code = usage_part('me/a-"quoted"-name', "builtin", facts)
        (block,) = re.findall(r"```python\n(.*?)```", code, re.DOTALL)
        values = {node.value for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Constant)}
        assert {prompt, 'me/a-"quoted"-name'} <= values


def test_cells_of_every_table_are_escaped(folder: Path) -> None:
    odd = "a|b c <!-- llava:end data --> <!-- llava:begin data -->"
    run = json.loads((folder / "run.json").read_text())
    for stage in (run, *run["previous"]):
        for source in (*stage["mixture"]["sources"], *stage["data"]["sources"]):
            source["name"] = odd
        for source in stage["mixture"]["sources"]:
            source.pop("licence", None)  # the old spelling of the recorded run
            source |= {"license": odd, "parts": [{"name": odd, "num_examples": 1, "license": odd, "teacher": odd}]}
    (folder / "run.json").write_text(json.dumps(run))
    record = read_checked_record(folder)
    result = {"task": odd, "metric": odd, "value": 1.0, "measured_by": odd}
    facts = CardFacts(evaluation=[result], licenses={odd: {"license": "MIT"}}, summary=odd)
    card = render_card(folder, "me/x", record, facts, compose_licenses(record, None, facts), allow_incomplete=True)
    assert set(generated_parts(card)) >= {"summary", "data", "evaluation", "license", "metadata"}
    body = card.split("\n---\n", 1)[1]
    assert len(re.findall("<!-- llava:", body)) == 2 * (len(generated_parts(card)) - 1)
    assert merge_card(card, card) == card
    tables = [lines.strip().splitlines() for lines in re.findall(r"(?:^\|.*\n?)+", body, re.MULTILINE)]
    assert len(tables) > 8
    for table in tables:
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table}
        assert len(columns) == 1, table
    assert "a\\|b c &lt;!-- llava:end data -->" in card


def test_stated_cards_say_of_every_setting_whose_it_is() -> None:
    ours = {"per_device_train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "packed"}
    ours |= {"attn_implementation", "max_grad_norm", "seed"}
    stated = [path for path in CARDS if read_card_facts(path).recipes]
    assert len(stated) == 6
    for path in stated:
        training = generated_parts((path.parent / "README.md").read_text())["training"]
        theirs, _, own = training.partition("Settings of our recipes, which are not the authors':")
        named = [set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) for text in (theirs, own)]
        assert named[1] == ours
        assert {"learning_rate", "lr_scheduler_type", "warmup_steps", "num_train_epochs"} <= named[0]
        assert not named[0] & ours
        assert "examples per optimizer step | 256" in theirs
        assert "Whether gradients were clipped is not known" in own


def test_cards_of_parts_are_adapters_and_their_code_names_what_can_be_loaded() -> None:
    for path in CARDS:
        card = (path.parent / "README.md").read_text()
        metadata = yaml.safe_load(card.split("---")[1])
        is_part = path.parent.name.endswith(("-lora", "-projector"))
        assert metadata.get("base_model_relation") == (
            "adapter" if is_part else "finetune" if "base_model" in metadata else None
        )
        usage = generated_parts(card)["usage"]
        made = re.findall(r"^llava convert \S+ (\S+)", usage, re.MULTILINE)
        for name in re.findall(r'model="([^"]+)"', usage) + re.findall(r"^llava serve (\S+)", usage, re.MULTILINE):
            assert "/" in name or name in made or f"OWNER/{name}" in usage, (path, name)


def test_a_loss_that_is_no_number_is_left_out_of_the_curve_and_counted(folder: Path) -> None:
    run = json.loads((folder / "run.json").read_text())
    run["loss_history"] = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": float("nan")}, {"step": 3, "loss": None}]
    run["loss_history"] += [{"step": 4, "loss": 1.0}, {"step": 5, "learning_rate": 0.1}]
    stages = RunRecord.from_dict(run).stages
    assert losses_of(stages[-1]) == [(1, 2.0), (4, 1.0)]
    (folder / "run.json").write_text(json.dumps(run))
    assert draw_curves(stages, folder) is not None
    assert "2 logged losses were no number" in render(folder)


def test_the_license_of_the_mixture_names_the_revision_that_says_it() -> None:
    mixture = yaml.safe_load((ROOT / "src/transformers_llava/mixtures/llava-v1.5-mix665k.yaml").read_text())
    (source,) = mixture["sources"]
    assert "README of October 2023" in source["license"]
    assert source["license_revision"] in source["license_url"]


def test_metadata_on_the_hub_that_is_no_yaml_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(CardError, match=r"README\.md: the metadata.*Mend it on the Hub"):
        merge_card("---\na: [\n---\nText\n", render(folder))


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
        ({"model-index": [{"name": "x", "results": ["y"]}]}, "results[0]` has no fields"),
        ({"model-index": [{"name": "x", "results": [{"task": "t", "metrics": ["m"]}]}]}, "task.type` is missing"),
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
