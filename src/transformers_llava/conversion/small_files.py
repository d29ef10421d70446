"""Read the small files of a checkpoint folder so that whatever is wrong with one is said with its name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers_llava.artifacts.limits import MAX_TEMPLATE_BYTES
from transformers_llava.artifacts.untrusted import read_json


# Each is a mapping wherever it is found. `vocab.json` and `tokenizer.json` are the large ones.
JSON_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.json",
    "vocab.json",
    "processor_config.json",
    "preprocessor_config.json",
    "chat_template.json",
    "adapter_config.json",
)
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "tokenizer.model"),
)
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "chat_template.jinja", "chat_template.json")


def check_documents(folder: str | Path) -> None:
    """
    Read every JSON file and template of a checkpoint that the libraries will read, so that a broken one is named.

    Raises:
        ValueError: One is no JSON, no mapping, too large, nested too deeply or not UTF-8.
    """
    folder = Path(folder)
    for name in JSON_FILES:
        if (folder / name).is_file():
            read_json(folder / name)
    template = folder / "chat_template.jinja"
    if template.is_file():
        with reading(folder, template.name):
            if template.stat().st_size > MAX_TEMPLATE_BYTES:
                raise ValueError(f"it is larger than {MAX_TEMPLATE_BYTES // 2**10} KiB, the most that is read of one")
            template.read_text(encoding="utf-8")


def optional_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file of a checkpoint; nothing if there is no such file."""
    return read_json(path) if path.is_file() else {}


@contextmanager
def reading(folder: str | Path, *names: str) -> Iterator[None]:
    """
    Turn whatever goes wrong inside into a `ValueError` that names the files that were read.

    The libraries raise errors of every type for a field of another kind, and none of them says which file had it.

    Args:
        folder (`str` or `Path`): The checkpoint.
        names (`str`): Files of it that the block reads; those that exist are named.
    """
    folder = Path(folder)
    try:
        yield
    except Exception as error:
        present = [name for name in names if (folder / name).exists()] or list(names)
        if isinstance(error, ValueError) and any(name in str(error) for name in present):
            raise
        text = " ".join(str(error).split())
        reason = text[:600] if isinstance(error, ValueError) else f"{type(error).__name__}: {text[:300]}"
        raise ValueError(f"{' or '.join(present)} in {folder} cannot be used: {reason}") from error


__all__ = ["JSON_FILES", "PROCESSOR_FILES", "TOKENIZER_FILES", "check_documents", "optional_json", "reading"]
