"""The demo's outputs from a small report: JSON fields, a page that needs nothing else, the facts of a card."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from tiny import make_image
from transformers_llava.artifacts.card_facts import read_card_facts
from transformers_llava.demo.peak_memory import PeakMemory
from transformers_llava.demo.report.card import card_facts, results
from transformers_llava.demo.report.loss_curve import draw_loss_curve
from transformers_llava.demo.report.page import write_report
from transformers_llava.demo.report.summary import DemoReport, Sample, SourceAccuracy
from transformers_llava.hub.cards.results import read_results, results_table


def make_run(stage: str) -> dict:
    component = {"mode": "full", "parameters": 1200, "learning_rate": 1e-3, "weight_decay": 0.0, "dtype": "float32"}
    source = {"name": "scenes", "license": None, "num_read": 12, "num_used": 10, "num_images": 10, "proportion": 1.0}
    return {
        "stage": stage,
        "components": [
            {**component, "component": "multi_modal_projector", "trainable": 1200},
            {**component, "component": "vision_tower", "mode": "frozen", "trainable": 0, "learning_rate": None},
        ],
        "configuration": {"learning_rate": 1e-3, "num_train_epochs": 1, "chat_template": "plain"},
        "data": {
            "num_used": 10,
            "num_dropped": 2,
            "digest": "sha256:ab",
            "sources": [{**source, "dropped": {"missing_image": 2}}],
        },
        "progress": {"global_step": 20, "seconds": 3.21, "num_tokens": 5000, "peak_memory_gb": 0.5},
        "loss_history": [{"step": 10, "loss": 2.5}, {"step": 20, "loss": 0.5}, {"step": 20, "train_loss": 1.5}],
        "weights_sha256": "12" * 32,
        "versions": {"torch": "2.13.0", "transformers-llava": "0.1"},
    }


@pytest.fixture
def report(tmp_path: Path) -> DemoReport:
    image = tmp_path / "image.png"
    make_image().save(image)
    samples = [
        Sample("scenes", image, "How many <b>?\nAnswer shortly.", "two", "Two.", fresh_answer="Two."),
        Sample("scenes", image, "Which colour?", "red", "blue", fresh_answer="green"),
    ]
    return DemoReport(
        seed=0,
        seconds=100.04,
        peak_memory_gb=1.234,
        weights_sha256="12" * 32,
        sources=[SourceAccuracy("scenes", 0.98, 0.41, 500), SourceAccuracy("digits", 0.95, 0.1, 360)],
        parts={"vision_tower": {"settings": {"image_size": 32}, "seconds": 10}},
        runs={"align": make_run("align"), "instruct": make_run("instruct")},
        samples=samples,
    )


def test_the_json_has_what_people_compare(report: DemoReport, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    written = json.loads((tmp_path / "demo_report.json").read_text())
    assert written["accuracy"] == {"scenes": 0.98, "digits": 0.95}
    assert written["blind_accuracy"] == {"scenes": 0.41, "digits": 0.1}
    assert written["seconds"] == 100.0
    assert written["peak_memory_gb"] == 1.23
    assert written["weights_sha256"] == "12" * 32
    assert written["fresh_process"] == {"asked": 2, "same_answers": 1}
    assert written["stages"]["instruct"]["last_loss"] == 0.5
    assert written["stages"]["align"]["rejected_records"] == 2


def test_the_summary_fits_a_screen(report: DemoReport) -> None:
    lines = report.to_text().splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    assert any(re.search(r"scenes +98\.0% +41\.0% +500", line) for line in lines)


class _References(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attributes if name in ("src", "href")]


def test_the_page_is_one_file_and_escapes_what_it_shows(report: DemoReport, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    page = (tmp_path / "report.html").read_text()
    references = _References()
    references.feed(page)
    assert len(references.found) == 2
    assert all(reference.startswith("data:image/png;base64,") for reference in references.found)
    assert "How many &lt;b&gt;?<br>Answer shortly." in page
    assert page.count("<svg") == 2
    assert "(truth: red)" in page
    assert "(truth: two)" not in page  # "Two." is right


def test_what_only_the_demo_knows_goes_into_its_card(report: DemoReport, tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(card_facts(report)))
    facts = read_card_facts(tmp_path / "card.yaml")
    assert "sees images at 32 pixels a side" in str(facts.limitations)
    assert facts.licenses["vision_tower"]["license"] == "Apache-2.0"
    (tmp_path / "evaluation.json").write_text(json.dumps({"tasks": results(report)}))
    measured = read_results(tmp_path, facts)
    assert [(one["task"], one["value"], one["num_examples"]) for one in measured][1:3] == [
        ("scenes, without images, a control", 0.41, 500),
        ("digits, with images", 0.95, 360),
    ]
    assert "| digits, with images | exact match | 0.95 | 360 |" in results_table(measured)


def test_a_loss_curve_falls_from_left_to_right() -> None:
    svg = draw_loss_curve([{"step": 1, "loss": 10.0}, {"step": 2, "loss": 0.1}, {"step": 2, "train_loss": 5.0}], "a<b")
    (points,) = re.findall(r'points="([^"]*)"', svg)
    (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in points.split())
    assert x1 < x2
    assert y1 < y2  # downwards in SVG
    assert "a&lt;b" in svg
    assert "no loss was logged" in draw_loss_curve([], "empty")


def test_peak_memory_sees_what_a_child_of_the_block_holds() -> None:
    """A child, because what this process and its other children hold may be freed at any time."""
    program = "block = bytearray(200_000_000); block[::4096] = b'x' * len(block[::4096]); print(); input()"
    with PeakMemory() as before:
        pass
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        with PeakMemory() as memory:
            child.stdout.readline()  # it holds them now, and until its input ends; the watch ends with a look
        child.communicate()
    with PeakMemory() as after:
        pass
    least, most = sorted((before.gigabytes, after.gigabytes))
    assert least + 0.19 < memory.gigabytes < most + 0.6
