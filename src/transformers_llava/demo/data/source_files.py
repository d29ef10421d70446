"""Write records and images of a demo source as LLaVA JSON files, the layout in which users bring their own."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SourceFiles:
    """
    Where one source of the demo lies on disk.

    Args:
        name (`str`): The source's name, as the reports print it.
        image_root (`Path`): The folder that the `image` fields are relative to.
        instructions (`Path`): LLaVA JSON of stage 2: questions and answers, several rounds per record.
        captions (`Path`, *optional*): LLaVA JSON of stage 1: one caption per image. A text-only source has none.
        test (`Path`, *optional*): LLaVA JSON of the held-out test: one question per record, its `answer` and its
            `question_type` repeated as fields of the record.
    """

    name: str
    image_root: Path
    instructions: Path
    captions: Path | None = None
    test: Path | None = None


def make_record(record_id: str, rounds: Sequence[tuple[str, str]], *, image: str | None = None) -> dict[str, Any]:
    """
    One LLaVA record. The image's marker stands in front of the first question, as in the original's data.

    Example:

        >>> make_record("0", [("What color is it?", "red")], image="0.png")["conversations"][0]
        {'from': 'human', 'value': '<image>\\nWhat color is it?'}
    """
    conversations = []
    for index, (question, answer) in enumerate(rounds):
        marker = "<image>\n" if image is not None and index == 0 else ""
        conversations.append({"from": "human", "value": marker + question})
        conversations.append({"from": "gpt", "value": answer})
    record: dict[str, Any] = {"id": record_id, "conversations": conversations}
    if image is not None:
        record["image"] = image
    return record


def write_records(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    """Writes `records` as one JSON array, one record a line, so that a user can read and grep the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    return path


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a file that [`write_records`] wrote."""
    records: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return records


__all__ = ["SourceFiles", "make_record", "read_records", "write_records"]
