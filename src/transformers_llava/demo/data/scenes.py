"""Write scenes of colored shapes as a source of images: captions, questions and a held-out test."""

import itertools
import random
from collections import Counter
from pathlib import Path
from typing import Any

from transformers_llava.demo.data.scene_compositions import CELLS, COLORS, SHAPES, Scene, sample_scene
from transformers_llava.demo.data.scene_drawing import draw_scene
from transformers_llava.demo.data.scene_questions import (
    QUESTION_TYPES,
    SHORT_ANSWER_PROMPT,
    Question,
    choose_question,
    describe_scene,
    list_questions,
)
from transformers_llava.demo.data.source_files import SourceFiles, make_record, write_records


CAPTION_REQUEST = "Describe the picture."

# What the test asks for, evenly: every type of question gets the same share, every answer of a type too.
TEST_ANSWERS: dict[str, tuple[str, ...]] = {
    "color": tuple(COLORS),
    "shape": SHAPES,
    "count": ("1", "2", "3", "4"),
    "place": CELLS,
    "several": ("Yes", "No"),
    "warm": ("Yes", "No"),
    "shape_choice": ("A", "B", "C", "D"),
    "count_choice": ("A", "B", "C", "D"),
}


def write_scenes(
    root: Path, *, seed: int, num_train: int = 4000, num_test: int = 480, num_rounds: int = 5, progress: bool = False
) -> SourceFiles:
    """
    Writes the scenes under `root`: `images/`, `captions.json`, `instructions.json`, `test.json`.

    Every training image has a caption (stage 1) and one record of `num_rounds` questions (stage 2).

    Args:
        root (`Path`): The folder to write into; made where it is missing.
        seed (`int`): The same seed gives the same files, byte by byte.
        num_train (`int`, *optional*, defaults to 4000): Training images.
        num_test (`int`, *optional*, defaults to 480): Test images, one question each.
        num_rounds (`int`, *optional*, defaults to 5): Questions per training image.
        progress (`bool`, *optional*, defaults to `False`): Whether to draw a progress bar.

    Returns:
        `SourceFiles`: where the files lie.
    """
    from tqdm.auto import tqdm

    (root / "images").mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"scenes-train-{seed}")
    asked: Counter[tuple[str, str]] = Counter()
    captions, instructions = [], []
    for index in tqdm(range(num_train), desc="scenes: training images", disable=not progress):
        scene = sample_scene(rng, held_out=False)
        image = _save_image(root, f"train-{index:05d}", scene)
        caption = describe_scene(scene)
        captions.append(make_record(f"scenes-caption-{index:05d}", [(CAPTION_REQUEST, caption)], image=image))
        rounds = [(question.text, question.answer) for question in _choose_rounds(scene, num_rounds, rng, asked)]
        if rng.random() < 0.5:
            rounds[0] = (ask_for_short_answer(rounds[0][0]), rounds[0][1])
        instructions.append(make_record(f"scenes-{index:05d}", rounds, image=image))
    return SourceFiles(
        name="scenes",
        image_root=root,
        captions=write_records(root / "captions.json", captions),
        instructions=write_records(root / "instructions.json", instructions),
        test=write_records(root / "test.json", _make_test(root, num_test, random.Random(f"scenes-test-{seed}"))),
    )


def ask_for_short_answer(question: str) -> str:
    """Adds LLaVA-1.5's prompt for short answers, unless the question already says how to answer (multiple choice)."""
    return question if "\n" in question else f"{question}\n{SHORT_ANSWER_PROMPT}"


def _choose_rounds(
    scene: Scene, num_rounds: int, rng: random.Random, asked: Counter[tuple[str, str]]
) -> list[Question]:
    """
    Questions of different types, in random order; types that the scene does not allow are left out.

    Where a shape is can be asked of single shapes only, so of them it always is: else it would be learnt last.
    """
    others = [question_type for question_type in QUESTION_TYPES if question_type != "place"]
    question_types = ["place", *rng.sample(others, len(others))]
    candidates = (choose_question(scene, question_type, rng, asked) for question_type in question_types)
    chosen = list(itertools.islice((question for question in candidates if question is not None), num_rounds))
    return rng.sample(chosen, len(chosen))


def _make_test(root: Path, num_test: int, rng: random.Random) -> list[dict[str, Any]]:
    records = []
    for index in range(num_test):
        question_type = QUESTION_TYPES[index % len(QUESTION_TYPES)]
        answers = TEST_ANSWERS[question_type]
        answer = answers[index // len(QUESTION_TYPES) % len(answers)]
        scene, question = _find_scene(question_type, answer, rng)
        image = _save_image(root, f"test-{index:05d}", scene)
        text = ask_for_short_answer(question.text)
        record = make_record(f"scenes-test-{index:05d}", [(text, question.answer)], image=image)
        records.append({**record, "answer": question.answer, "question_type": question_type})
    return records


def _find_scene(question_type: str, answer: str, rng: random.Random) -> tuple[Scene, Question]:
    """Draws test scenes until one allows a question of this type with this answer."""
    while True:
        scene = sample_scene(rng, held_out=True)
        fitting = [item for item in list_questions(scene, question_type, rng) if item.answer == answer]
        if fitting:
            return scene, rng.choice(fitting)


def _save_image(root: Path, name: str, scene: Scene) -> str:
    path = f"images/{name}.png"
    draw_scene(scene).save(root / path, compress_level=1)
    return path


__all__ = ["CAPTION_REQUEST", "TEST_ANSWERS", "ask_for_short_answer", "write_scenes"]
