"""Pre-train the parts that LLaVA starts from on the demo's sources: tokenizer, vision tower, language model."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

from transformers_llava.chat_templates import load_chat_template
from transformers_llava.demo.base_models.language_model import LanguageModelSettings, pretrain_language_model
from transformers_llava.demo.base_models.tokenizer import BOS_TOKEN, make_tokenizer
from transformers_llava.demo.base_models.vision_tower import VisionTowerSettings, pretrain_vision_tower
from transformers_llava.demo.data.source_files import SourceFiles, read_records


def make_parts(
    sources: Sequence[SourceFiles],
    folder: Path,
    *,
    seed: int,
    vision_tower: VisionTowerSettings | None = None,
    language_model: LanguageModelSettings | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """
    Trains the parts and saves them as `vision_tower/` and `language_model/` under `folder`.

    The vision tower sees images and captions, never a question. The language model sees text alone: captions, and
    dialogues in which a caption stands where LLaVA will put the image.

    Args:
        sources (`Sequence[SourceFiles]`): The demo's training data; the held-out tests are not read.
        folder (`Path`): Where the parts go.
        seed (`int`): Of everything random.
        vision_tower, language_model (*optional*): Sizes and training of the parts.
        progress (`bool`, *optional*, defaults to `True`): Whether to draw progress bars.

    Returns:
        `dict`: The report of each part.
    """
    pairs = [pair for source in sources if source.captions for pair in _captions(source)]
    documents = list(_documents(sources, random.Random(f"documents-{seed}")))
    tokenizer = make_tokenizer(documents, folder / "language_model")
    return {
        "vision_tower": pretrain_vision_tower(
            pairs, tokenizer, folder / "vision_tower", seed=seed, settings=vision_tower, progress=progress
        ),
        "language_model": pretrain_language_model(
            documents, tokenizer, folder / "language_model", seed=seed, settings=language_model, progress=progress
        ),
    }


def _captions(source: SourceFiles) -> Iterator[tuple[Path, str]]:
    assert source.captions is not None
    for record in read_records(source.captions):
        yield source.image_root / record["image"], record["conversations"][1]["value"]


def _documents(sources: Sequence[SourceFiles], rng: random.Random) -> Iterator[str]:
    """Captions by themselves, and every dialogue with its image's caption in the image's place."""
    for source in sources:
        captions = {record["image"]: record["conversations"][1]["value"] for record in _records(source.captions)}
        for record in _records(source.instructions):
            caption = captions.get(record.get("image"), "")
            if caption and rng.random() < 0.2:
                yield f"{BOS_TOKEN}{caption}\n"
            yield _render(record, caption)


def _records(path: Path | None) -> list[dict[str, Any]]:
    return read_records(path) if path is not None else []


def _render(record: dict[str, Any], caption: str) -> str:
    roles = {"human": "user", "gpt": "assistant"}
    messages = [
        {"role": roles[turn["from"]], "content": turn["value"].replace("<image>", caption)}
        for turn in record["conversations"]
    ]
    rendered, _ = render_jinja_template([messages], chat_template=load_chat_template("vicuna_v1"), bos_token=BOS_TOKEN)
    return rendered[0]


__all__ = ["make_parts"]
