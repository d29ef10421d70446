"""The demo's data: the same for a seed, test apart from training, answers that the question does not give away."""

import json
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from transformers_llava.data.mixture.config import SourceConfig
from transformers_llava.data.mixture.source import load_source
from transformers_llava.demo.data.digits import TEST_EVERY, write_digits
from transformers_llava.demo.data.scene_compositions import CELLS, COLORS, SHAPES, Scene, sample_scene
from transformers_llava.demo.data.scene_questions import QUESTION_TYPES, choose_question, describe_scene
from transformers_llava.demo.data.scenes import TEST_ANSWERS, write_scenes
from transformers_llava.demo.data.source_files import SourceFiles, make_record, read_records
from transformers_llava.demo.data.text_only import write_text_only


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> SourceFiles:
    return write_scenes(tmp_path_factory.mktemp("scenes"), seed=0, num_train=60, num_test=96)


def test_a_scene_is_described_and_asked_about_by_what_it_shows() -> None:
    scene = Scene("red", "cross", ("top left", "bottom right"), appearance_seed=0)
    assert describe_scene(scene) == "two red crosses: top left, bottom right."
    asked: Counter = Counter()
    answers = {}
    for question_type in QUESTION_TYPES:
        question = choose_question(scene, question_type, random.Random(0), asked)
        answers[question_type] = None if question is None else question.answer
    assert answers == {
        "color": "red",
        "shape": "cross",
        "count": "2",
        "place": None,
        "several": "Yes",
        "warm": "Yes",
        "shape_choice": "C",
        "count_choice": "B",
    }


def test_held_out_compositions_are_a_latin_square_and_never_shown_in_training() -> None:
    held_out = [
        (color, shape, count)
        for color in COLORS
        for shape in SHAPES
        for count in range(1, 5)
        if Scene(color, shape, CELLS[:count], 0).is_held_out
    ]
    assert len(held_out) == len(COLORS) * len(SHAPES)
    assert len({(color, shape) for color, shape, _ in held_out}) == len(held_out)
    rng = random.Random(0)
    trained = {(s.color, s.shape, s.count) for s in (sample_scene(rng, held_out=False) for _ in range(2000))}
    assert trained.isdisjoint(held_out)
    assert len(trained) == 96 - 24


def test_the_same_seed_writes_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    files = {}
    for name, seed in [("a", 0), ("b", 0), ("c", 1)]:
        write_scenes(tmp_path / name, seed=seed, num_train=4, num_test=8)
        write_text_only(tmp_path / name / "text", seed=seed, num_records=5)
        files[name] = {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*.*")}
    assert len(files["a"]) == 4 + 8 + 3 + 1
    assert files["a"] == files["b"]
    assert files["a"] != files["c"]


def test_the_files_are_llava_json_that_the_data_floor_reads_whole(scenes: SourceFiles) -> None:
    for path in (scenes.captions, scenes.instructions, scenes.test):
        config = SourceConfig(name="scenes", path=str(path), image_root=str(scenes.image_root))
        dataset, report = load_source(config, strict=True)
        assert len(dataset) == report.num_read > 0
    record = read_records(scenes.instructions)[0]
    assert set(record) == {"id", "image", "conversations"}
    assert record["conversations"][0]["value"].startswith("<image>\n")


def test_guessing_from_the_question_alone_gains_little(scenes: SourceFiles) -> None:
    """The best answer per question text, chosen with the test at hand, is right less than half of the time."""
    answers: dict[str, Counter] = defaultdict(Counter)
    for record in read_records(scenes.test):
        answers[record["conversations"][0]["value"]][record["answer"]] += 1
    guessed = sum(counter.most_common(1)[0][1] for counter in answers.values())
    assert guessed / 96 < 0.5
    types = Counter(record["question_type"] for record in read_records(scenes.test))
    assert set(types.values()) == {96 // len(TEST_ANSWERS)}


def test_the_digit_test_is_every_fifth_image_and_shares_none_with_training(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    digits = write_digits(tmp_path, seed=0, num_renderings=1)
    test = [int(record["id"].rsplit("-", 1)[1]) for record in read_records(digits.test)]
    assert len(test) == 359
    assert all(index % TEST_EVERY == TEST_EVERY - 1 for index in test)
    trained = {int(record["id"].split("-")[1]) for record in read_records(digits.instructions)}
    assert trained.isdisjoint(test)
    assert len(trained) + len(test) == 1797
    answers = Counter(record["answer"] for record in read_records(digits.test))
    assert max(answers.values()) / 359 < 0.15


def test_a_record_without_an_image_has_no_marker() -> None:
    record = make_record("1", [("Hi", "Hello"), ("Bye", "Bye")])
    assert "image" not in record
    assert "<image>" not in json.dumps(record)
