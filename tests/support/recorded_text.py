"""Give what our templates and tokenizers make of recorded dialogues and training records, for the parity tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template


IMAGE = {"type": "image"}
# The original's placeholder in its lists of ids.
IMAGE_ID = -200

# The template of the text that a `version` of the original trains, where its name differs: v0 writes another text than
# its prompts, and every Qwen is trained with the system text of qwen_1_5.
TRAINING_TEMPLATES = {
    "v1": "vicuna_v1",
    "llava_v0": "v0_training",
    "v0_mmtag": "v0_mmtag_training",
    "qwen_2_5": "qwen_1_5",
}


@dataclass(frozen=True)
class Encoded:
    text: str
    ids: list[int]
    ranges: list[list[int]]


def dialogue_messages(dialogue: dict[str, Any]) -> tuple[list[dict[str, Any]], bool]:
    """A recorded dialogue as messages, and whether an answer is to be generated; a tuple message becomes parts."""
    messages: list[dict[str, Any]] = []
    if "system" in dialogue:
        messages.append({"role": "system", "content": dialogue["system"]})
    for number, turn in enumerate(dialogue["messages"]):
        if turn is not None:
            content = to_parts(turn[0]) if isinstance(turn, list) else turn
            messages.append({"role": ("user", "assistant")[number % 2], "content": content})
    return messages, dialogue["messages"][-1] is None


def record_messages(record: dict[str, Any]) -> list[dict[str, Any]]:
    """A LLaVA record without a leading answer as messages of parts, every character kept."""
    turns = record["conversations"]
    turns = turns if turns[0]["from"] == "human" else turns[1:]
    messages = []
    for turn in turns:
        has_images = "image" in record and turn["from"] == "human"
        role = "user" if turn["from"] == "human" else "assistant"
        content = to_parts(turn["value"]) if has_images else [text_part(turn["value"])]
        messages.append({"role": role, "content": content})
    return messages


def to_parts(text: str) -> list[dict[str, str]]:
    """Text and images in place, every character kept."""
    parts: list[dict[str, str]] = []
    for number, piece in enumerate(text.split("<image>")):
        parts += [IMAGE] if number else []
        parts += [text_part(piece)] if piece else []
    return parts


def text_part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def render(template: str, messages: list[dict[str, Any]], *, prompt: bool = False, bos: str | None = "") -> str:
    variables = {} if bos is None else {"bos_token": bos}
    return render_jinja_template([messages], chat_template=template, add_generation_prompt=prompt, **variables)[0][0]


def encode(tokenizer: PreTrainedTokenizerFast, template: str, messages: list[dict[str, Any]]) -> Encoded:
    """Text, ids (-200 for an image) and ranges of supervised tokens, by the rule of `ProcessorMixin`: any overlap."""
    variables = {name: text for name, text in tokenizer.special_tokens_map.items() if isinstance(text, str)}
    texts, spans = render_jinja_template(
        [messages], chat_template=template, return_assistant_tokens_mask=True, **variables
    )
    encoding = tokenizer(texts[0], return_offsets_mapping=True)
    mask = [any(start < to and end > fro for fro, to in spans[0]) for start, end in encoding["offset_mapping"]]
    return Encoded(texts[0], original_ids(tokenizer, encoding["input_ids"]), to_ranges(mask))


def original_ids(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> list[int]:
    return [IMAGE_ID if index == tokenizer.convert_tokens_to_ids("<image>") else index for index in ids]


def to_ranges(mask: Sequence[bool]) -> list[list[int]]:
    """[0, 1, 1, 0, 1] -> [[1, 3], [4, 5]]"""
    ranges: list[list[int]] = []
    for position, is_supervised in enumerate(mask):
        if is_supervised and ranges and ranges[-1][1] == position:
            ranges[-1][1] += 1
        elif is_supervised:
            ranges.append([position, position + 1])
    return ranges


def cut(ranges: list[list[int]], length: int) -> list[list[int]]:
    return [[start, min(end, length)] for start, end in ranges if start < length]


def positions(ranges: list[list[int]]) -> set[int]:
    return {position for start, end in ranges for position in range(start, end)}
