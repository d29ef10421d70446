"""Mutated images, archives and sources: every fault is a `RecordError` or a `ValueError`, and none is another."""

import io
import random
import struct
import zipfile
from pathlib import Path

import pytest

import tiny
from transformers_llava.data.images.opening import image_size, open_image
from transformers_llava.data.images.paths import resolve_image
from transformers_llava.data.mixture.config import MixtureConfig, SourceConfig
from transformers_llava.data.schema import RecordError
from transformers_llava.modeling.images.image_opening import available_formats


NUM_MUTATIONS = 150


def mutated(data: bytes, generator: random.Random) -> bytes:
    content = bytearray(data)
    for _ in range(generator.randint(1, 6)):
        place = generator.randrange(min(len(content), 200 if generator.random() < 0.7 else len(content)))
        width = generator.choice([1, 1, 2, 4])
        content[place : place + width] = generator.choice(
            [generator.randbytes(width), b"\xff" * width, bytes(width), struct.pack("<I", 2**31)[:width]]
        )
    return bytes(content[: generator.randint(1, len(content))] if generator.random() < 0.1 else content)


@pytest.mark.parametrize("format", available_formats())
@pytest.mark.filterwarnings("ignore")  # Pillow's, of tags that make no sense
def test_a_mutated_image_is_read_or_is_an_error_of_its_record(format: str) -> None:
    stream = io.BytesIO()
    tiny.make_image(40, 30).save(stream, format)
    generator = random.Random(format)
    outcomes = set()
    for _ in range(NUM_MUTATIONS):
        reference = {"bytes": mutated(stream.getvalue(), generator), "path": None}
        for look in (image_size, open_image):
            try:
                look(reference)
                outcomes.add("read")
            except RecordError as error:
                outcomes.add(error.reason)
    assert outcomes > {"read"}
    assert outcomes <= {"read", "unreadable_image", "truncated_image", "decompression_bomb", "unsupported_image"}


def test_a_mutated_archive_is_read_or_is_an_error_of_its_record(tmp_path: Path) -> None:
    stream = io.BytesIO()
    tiny.make_image(40, 30).save(stream, "PNG")
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        archive.writestr("a.png", stream.getvalue(), compress_type=zipfile.ZIP_DEFLATED)
    whole = (tmp_path / "whole.zip").read_bytes()
    generator = random.Random(0)
    outcomes = set()
    for number in range(NUM_MUTATIONS):
        path = tmp_path / f"{number}.zip"
        ends = mutated(whole[-120:], generator)  # the directory
        path.write_bytes(whole[:-120] + ends if number % 2 else mutated(whole, generator))
        try:
            open_image(resolve_image("a.png", path))
            outcomes.add("read")
        except RecordError as error:
            outcomes.add(error.reason)
    assert {"read", "missing_image", "unreadable_image"} <= outcomes


VALUES = [
    None,
    True,
    0,
    -1,
    7,
    2**70,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\0",
    "a\nb",
    [],
    ["a"],
    [5],
    {},
    {5: 6},
]
VALUES += [b"x", {"name": "a"}, {"name": 5, "num_examples": "x"}, [{"name": "a", "num_examples": []}], ("a",), {"a"}]


def test_a_source_of_any_values_is_accepted_or_a_value_error() -> None:
    generator = random.Random(0)
    fields = [*SourceConfig.__dataclass_fields__, "other", 5, None, ("a",)]
    outcomes = set()
    for _ in range(3000):
        values = {"name": "a", "path": "a.json"}
        values |= {generator.choice(fields): generator.choice(VALUES) for _ in range(generator.randint(1, 3))}
        try:
            MixtureConfig([values], seed=generator.choice([0, 1, *VALUES]))
            outcomes.add("accepted")
        except ValueError:
            outcomes.add("refused")
    assert outcomes == {"accepted", "refused"}
