"""Write conversations without an image: part of stage 2, so that the model does not forget how to talk."""

import random
from itertools import pairwise
from pathlib import Path

from transformers_llava.demo.data.scene_compositions import CELLS, COLORS, SHAPES
from transformers_llava.demo.data.source_files import SourceFiles, make_record, write_records


_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_OPPOSITES = {"top": "bottom", "left": "right", "yes": "no", "even": "odd", "first": "last", "small": "large"}
_GREETINGS = {
    "Hello!": "Hello! How can I help you?",
    "Good morning.": "Good morning! How can I help you?",
    "Thank you.": "You are welcome.",
    "Who are you?": "I am a small assistant that looks at pictures.",
    "What can you do?": "I can answer questions about pictures.",
}


def write_text_only(root: Path, *, seed: int, num_records: int = 400) -> SourceFiles:
    """
    Writes `instructions.json` under `root`: dialogues of one to three rounds.

    Args:
        root (`Path`): The folder to write into; made where it is missing.
        seed (`int`): The same seed gives the same file.
        num_records (`int`, *optional*, defaults to 400): Dialogues.
    """
    rng = random.Random(f"text-only-{seed}")
    facts = list_facts()
    records = [make_record(f"text-{index:05d}", rng.sample(facts, rng.randint(1, 3))) for index in range(num_records)]
    return SourceFiles("text_only", root, write_records(root / "instructions.json", records))


def list_facts() -> list[tuple[str, str]]:
    """Questions that need no image, with their answers."""
    facts = list(_GREETINGS.items())
    facts += [(f"What comes after {one}?", f"{other}") for one, other in pairwise(_NUMBERS)]
    pairs = [*_OPPOSITES.items(), *((other, one) for one, other in _OPPOSITES.items())]
    facts += [(f"What is the opposite of {one}?", other) for one, other in pairs]
    facts += [(f"Is {word} a color?", "Yes") for word in COLORS] + [(f"Is {word} a color?", "No") for word in SHAPES]
    facts += [(f"Is a {word} a shape?", "Yes") for word in SHAPES] + [("Name a corner of a picture.", CELLS[0])]
    return facts


__all__ = ["list_facts", "write_text_only"]
