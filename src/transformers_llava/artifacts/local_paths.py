"""Read and write where a run's data and base models lie on this machine; it never leaves the machine."""

from pathlib import Path
from typing import Any

from transformers_llava.artifacts.untrusted import DocumentError, read_json


PLACES_NAME = ".cache/huggingface/places.json"  # for this machine alone


def read_places(checkpoint: Path) -> list[dict[str, Any]]:
    """
    Where each stage's data and base models lie on this machine, the first stage first; empty if nobody noted it.

    Raises:
        `DocumentError`: the note is there and is not one of ours.
    """
    path = checkpoint / PLACES_NAME
    if not path.is_file():
        return []
    last = read_json(path)
    places = [*(last.pop("previous", None) or []), last]
    for one in places:
        parts = [one.get(name) for name in ("sources", "base_models")] if isinstance(one, dict) else [None]
        sources = [*parts[0].values()] if isinstance(parts[0], dict) else [None]
        if not all(isinstance(part, dict) for part in (*parts, *sources)):
            raise DocumentError(
                f"{str(path)!r} is no note of where the parts of a run lie. Publish without --self_contained, or "
                "train again."
            )
    return places


__all__ = ["PLACES_NAME", "read_places"]
