"""Write a stand-in for the 665K mixture: its published counts, real image files, invented dialogues.

Dialogues have the shape of their source (rounds, lengths of questions and answers, prompts of the answer's form);
their words are drawn by Zipf's law from a vocabulary that is invented too, so nothing has to be downloaded.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import CLIPVisionConfig, LlamaConfig, PreTrainedTokenizerFast

from transformers_llava import OpenLlavaConfig, OpenLlavaProcessor
from transformers_llava.chat_templates import load_chat_template


@dataclass(frozen=True)
class Shape:
    """What the records of one published source look like."""

    num_records: int
    folder: str | None
    rounds: tuple[int, int]  # least and most
    question: tuple[int, int]  # words
    answer: tuple[int, int]  # words
    suffix: str = ""


_WORD = "\nAnswer the question using a single word or phrase."
SHAPES = {
    "llava_instruct": Shape(157_712, "coco/train2017", (1, 5), (6, 16), (15, 110)),
    "sharegpt": Shape(40_688, None, (1, 8), (8, 60), (60, 260)),
    "vqav2": Shape(82_783, "coco/train2017", (3, 10), (4, 9), (1, 2), _WORD),
    "gqa": Shape(72_140, "gqa/images", (4, 18), (6, 14), (1, 2), _WORD),
    "okvqa": Shape(8_998, "coco/train2017", (1, 2), (6, 12), (1, 3), _WORD),
    "ocr_vqa": Shape(80_000, "ocr_vqa/images", (4, 6), (5, 10), (1, 8), _WORD),
    "a_okvqa": Shape(66_160, "coco/train2017", (1, 2), (16, 24), (1, 1), "\nAnswer with the option's letter."),
    "textcaps": Shape(21_953, "textvqa/train_images", (1, 1), (16, 60), (9, 16)),
    "refcoco": Shape(48_447, "coco/train2017", (3, 20), (8, 12), (4, 9)),
    "vg": Shape(86_417, "vg/VG_100K", (8, 30), (10, 14), (4, 9)),
}
NUM_RECORDS = sum(shape.num_records for shape in SHAPES.values())
assert NUM_RECORDS == 665_298

_SIZES = [(640, 480), (480, 640), (640, 427), (500, 375), (612, 612), (1024, 768), (334, 500)]
_NUM_PHRASES = 50_000


def write_stand_in(folder: Path, *, scale: float = 1.0, num_images: int = 300, seed: int = 0) -> Path:
    """
    Write images and `mix665k.json`.

    Args:
        folder (`Path`): Gets both; also the image root.
        scale (`float`, *optional*, defaults to 1.0): Share of the records of every source.
        num_images (`int`, *optional*, defaults to 300): Image files, shared by all records.

    Returns:
        `Path`: The JSON file.
    """
    chance = random.Random(seed)
    images = _write_images(folder, num_images, seed)
    vocabulary = _vocabulary(chance)
    draws = np.random.default_rng(seed).zipf(1.3, _NUM_PHRASES * 8) % len(vocabulary)
    words = [vocabulary[draw] for draw in draws]  # phrases are windows of this text: slices are cheap to draw
    names = [name for name, shape in SHAPES.items() for _ in range(round(shape.num_records * scale))]
    chance.shuffle(names)  # the published file is shuffled too
    path = folder / "mix665k.json"
    with path.open("w", encoding="utf-8") as stream:
        for number, name in enumerate(names):
            record = _record(str(number), SHAPES[name], images, words, chance)
            stream.write(("[\n" if number == 0 else ",\n") + json.dumps(record))
        stream.write("\n]\n")
    return path


def make_processor(folder: Path, *, image_aspect_ratio: str = "pad") -> OpenLlavaProcessor:
    """LLaVA-1.5's: 576 tokens an image of 336 pixels, a vocabulary of 32,000 trained on the stand-in, vicuna_v1."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        _train_tokenizer(folder / "mix665k.json", file)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(file), unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<unk>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]}, replace_extra_special_tokens=False)
    config = OpenLlavaConfig(
        vision_config=CLIPVisionConfig(image_size=336, patch_size=14),
        text_config=LlamaConfig(vocab_size=32_000),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_aspect_ratio=image_aspect_ratio,
    )
    return OpenLlavaProcessor.from_model_config(config, tokenizer, chat_template=load_chat_template("vicuna_v1"))


def _record(
    record_id: str, shape: Shape, images: dict[str, list[str]], words: list[str], chance: random.Random
) -> dict[str, Any]:
    turns = []
    for number in range(chance.randint(*shape.rounds)):
        marker = "<image>\n" if shape.folder is not None and number == 0 else ""
        turns.append({"from": "human", "value": marker + _phrase(shape.question, words, chance) + "?" + shape.suffix})
        turns.append({"from": "gpt", "value": _phrase(shape.answer, words, chance) + "."})
    record: dict[str, Any] = {"id": record_id, "conversations": turns}
    if shape.folder is not None:
        record["image"] = chance.choice(images[shape.folder])
    return record


def _phrase(length: tuple[int, int], words: list[str], chance: random.Random) -> str:
    start = int(chance.random() * (len(words) - length[1]))
    return " ".join(words[start : start + chance.randint(*length)]).capitalize()


def _vocabulary(chance: random.Random) -> list[str]:
    syllables = [a + b + c for a in "bcdfglmnprst" for b in "aeiou" for c in ("", "n", "r", "s", "t")]
    words = {"".join(chance.choices(syllables, k=1 + int(chance.expovariate(0.9)))) for _ in range(40_000)}
    return sorted(words, key=lambda word: (len(word), word))  # frequent words are short


def _write_images(folder: Path, num_images: int, seed: int) -> dict[str, list[str]]:
    """Coloured noise at a few scales: compresses like a photograph (some 100 KB), unlike a plain surface."""
    generator = np.random.default_rng(seed)
    folders = sorted({shape.folder for shape in SHAPES.values() if shape.folder is not None})
    images: dict[str, list[str]] = {name: [] for name in folders}
    for number in range(num_images):
        name, (width, height) = folders[number % len(folders)], _SIZES[number % len(_SIZES)]
        image = Image.new("RGB", (width, height))
        for scale in (64, 8, 2):
            noise = generator.integers(0, 256, (height // scale + 1, width // scale + 1, 3), dtype=np.uint8)
            layer = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
            image = Image.blend(image, layer, 1.0 if scale == 64 else 0.25)
        member = f"{name}/{number:012d}.jpg"
        (folder / member).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / member, quality=90)
        images[name].append(member)
    return images


def _train_tokenizer(file: Path, target: Path) -> None:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    with file.open(encoding="utf-8") as stream:
        lines = [line for _, line in zip(range(20_000), stream)]
    alphabet = sorted({character for line in lines for character in line})
    trainer = trainers.BpeTrainer(
        vocab_size=32_000,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.save(str(target))
