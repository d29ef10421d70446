"""Share examples and images among the tests of the data."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from transformers_llava.data.schema import Example


@pytest.fixture(autouse=True)
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Parsed sources are kept for this test only."""
    monkeypatch.setenv("TRANSFORMERS_LLAVA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def png() -> Callable[..., bytes]:
    """Makes the bytes of an image: `png(width, height, seed)`."""

    def make(width: int = 40, height: int = 30, seed: int = 0, format: str = "PNG") -> bytes:
        stream = io.BytesIO()
        tiny.make_image(width, height, seed).save(stream, format)
        return stream.getvalue()

    return make


@pytest.fixture
def example(png: Callable[..., bytes]) -> Callable[..., Example]:
    """Makes an example: turns of user and assistant by turns, each a text or a list in which None is an image."""

    def make(*turns: str | list[str | None], id: str = "1", sizes: list[tuple[int, int]] | None = None) -> Example:
        messages: list[Any] = []
        for number, turn in enumerate(turns):
            parts = [turn] if isinstance(turn, str) else turn
            content = [
                {"type": "image", "text": None} if part is None else {"type": "text", "text": part} for part in parts
            ]
            messages.append({"role": ("user", "assistant")[number % 2], "content": content})
        num_images = sum(part["type"] == "image" for message in messages for part in message["content"])
        sizes = sizes or [(40, 30)] * num_images
        images: list[Any] = [{"bytes": png(*size, seed=n), "path": None} for n, size in enumerate(sizes)]
        return {"id": id, "messages": messages, "images": images, "source": "s"}

    return make


@pytest.fixture
def write_source(tmp_path: Path) -> Callable[..., Path]:
    """Writes records, and beside them files by name."""

    def write(records: list[Any], files: dict[str, bytes] | None = None, name: str = "data.json") -> Path:
        for file, data in (files or {}).items():
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_bytes(data)
        lines = [json.dumps(record) for record in records]
        text = "\n".join(lines) if name.endswith("l") else "[" + ",\n".join(lines) + "]"
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write
