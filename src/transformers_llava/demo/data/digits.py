"""Write scikit-learn's handwritten digits as a source of images: captions, questions and a held-out test."""

import random
from pathlib import Path

from PIL import Image

from transformers_llava.demo.data.scene_questions import SHORT_ANSWER_PROMPT
from transformers_llava.demo.data.scenes import CAPTION_REQUEST
from transformers_llava.demo.data.source_files import SourceFiles, make_record, write_records


IMAGE_SIZE = 96
NUM_DIGITS = 1797
# Contract: every fifth image of scikit-learn's `load_digits()` (index 4, 9, 14, ...) is the test, whatever the seed.
# The collection does not say who wrote what, so the same hand may have written images of both parts.
TEST_EVERY = 5

DIGIT_QUESTION = "Which digit is written here?"


def write_digits(root: Path, *, seed: int, num_renderings: int = 3, progress: bool = False) -> SourceFiles:
    """
    Writes the digits under `root`: `images/`, `captions.json`, `instructions.json`, `test.json`.

    The 1438 training images are drawn `num_renderings` times each: once as they are, then shifted, turned, scaled,
    sheared and with a thinner or thicker stroke. The 359 test images are drawn once, as they are.

    Args:
        root (`Path`): The folder to write into; made where it is missing.
        seed (`int`): The same seed gives the same files, byte by byte.
        num_renderings (`int`, *optional*, defaults to 3): Images made from each training digit.
        progress (`bool`, *optional*, defaults to `False`): Whether to draw a progress bar.

    Returns:
        `SourceFiles`: where the files lie.
    """
    from sklearn.datasets import load_digits
    from tqdm.auto import tqdm

    (root / "images").mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"digits-{seed}")
    collection = load_digits()
    captions, instructions, test = [], [], []
    for index in tqdm(range(NUM_DIGITS), desc="digits: images", disable=not progress):
        digit = int(collection.target[index])
        drawing = _to_image(collection.images[index].tolist())
        if index % TEST_EVERY == TEST_EVERY - 1:
            image = _save_image(root, f"test-{index:04d}", drawing)
            question = f"{DIGIT_QUESTION}\n{SHORT_ANSWER_PROMPT}"
            record = make_record(f"digits-test-{index:04d}", [(question, str(digit))], image=image)
            test.append({**record, "answer": str(digit), "question_type": "digit"})
            continue
        for rendering in range(num_renderings):
            name = f"{index:04d}-{rendering}"
            image = _save_image(root, f"train-{name}", _distort(drawing, rng) if rendering else drawing)
            captions.append(
                make_record(f"digits-caption-{name}", [(CAPTION_REQUEST, describe_digit(digit))], image=image)
            )
            rounds = _make_rounds(digit, rng)
            instructions.append(make_record(f"digits-{name}", rounds, image=image))
    return SourceFiles(
        name="digits",
        image_root=root,
        captions=write_records(root / "captions.json", captions),
        instructions=write_records(root / "instructions.json", instructions),
        test=write_records(root / "test.json", test),
    )


def describe_digit(digit: int) -> str:
    """The caption of a digit."""
    return f"a handwritten digit: {digit}."


def _make_rounds(digit: int, rng: random.Random) -> list[tuple[str, str]]:
    """The question that names the digit, then two whose answers are evenly spread."""
    prompt = f"\n{SHORT_ANSWER_PROMPT}" if rng.random() < 0.5 else ""
    return [
        (DIGIT_QUESTION + prompt, str(digit)),
        ("Is the digit even or odd?", "odd" if digit % 2 else "even"),
        ("Is the digit greater than 4?", "Yes" if digit > 4 else "No"),
    ]


def _to_image(rows: list[list[float]]) -> Image.Image:
    """8 x 8 values from 0 (paper) to 16 (ink) to a dark digit on white paper."""
    small = Image.new("L", (8, 8))
    small.putdata([round(255 - value * 255 / 16) for row in rows for value in row])
    # A white margin of one pixel keeps shifted and turned digits inside the image.
    framed = Image.new("L", (10, 10), 255)
    framed.paste(small, (1, 1))
    return framed.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)


def _distort(image: Image.Image, rng: random.Random) -> Image.Image:
    """The same digit as another hand might have written it; the digit itself stays readable."""
    scale_x, scale_y = rng.uniform(0.85, 1.15), rng.uniform(0.85, 1.15)
    shear = rng.uniform(-0.2, 0.2)
    shift_x, shift_y = rng.uniform(-0.08, 0.08) * IMAGE_SIZE, rng.uniform(-0.08, 0.08) * IMAGE_SIZE
    center = IMAGE_SIZE / 2
    # Image.transform asks where each target pixel comes from: x' = a x + b y + c, about the centre.
    a, b, d, e = 1 / scale_x, shear, 0.0, 1 / scale_y
    matrix = (a, b, center - a * (center + shift_x) - b * (center + shift_y), d, e, center - e * (center + shift_y))
    moved = image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=255)
    turned = moved.rotate(rng.uniform(-12, 12), Image.Resampling.BILINEAR, fillcolor=255)
    # A power below 1 thins the stroke, above 1 thickens it.
    power = rng.uniform(0.6, 1.6)
    return turned.point([round(255 * (value / 255) ** power) for value in range(256)])


def _save_image(root: Path, name: str, image: Image.Image) -> str:
    path = f"images/{name}.png"
    image.convert("RGB").save(root / path, compress_level=1)
    return path


__all__ = ["DIGIT_QUESTION", "NUM_DIGITS", "TEST_EVERY", "describe_digit", "write_digits"]
