"""State what records do not say: published parts of a source with counts and licenses, and files to fetch."""

import os
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from transformers_llava.data.images.archives import archive_of
from transformers_llava.data.images.paths import path_in_root
from transformers_llava.data.mixture.fields import Kind, check_fields, shown
from transformers_llava.data.records.record_store import ParsedSource


NO_IMAGE = "(no image)"
UNKNOWN = "unknown"  # a value, never read as "free"


@dataclass(frozen=True)
class SourcePart:
    """One of the data sets that a published file was put together from."""

    name: str = field(metadata={"help": "As its makers call it."})
    num_examples: int = field(metadata={"help": "Records, as published."})
    image_folder: str | None = field(
        default=None, metadata={"help": "First folder of the images' paths; none for records without an image."}
    )
    license: str = field(default=UNKNOWN, metadata={"help": "Of the questions and answers."})
    license_url: str | None = field(default=None, metadata={"help": "Where that is stated."})
    license_revision: str | None = field(default=None, metadata={"help": "Commit at which it was stated so."})
    images_license: str | None = field(default=None, metadata={"help": "Of the images."})
    images_license_url: str | None = field(default=None, metadata={"help": "Where that is stated."})
    provenance: str = field(default=UNKNOWN, metadata={"help": "human, or model: who wrote the answers."})
    teacher: str | None = field(default=None, metadata={"help": "Model that wrote them."})
    teacher_terms: str | None = field(default=None, metadata={"help": "Terms of that model's outputs."})
    teacher_terms_url: str | None = field(default=None, metadata={"help": "Where these are stated."})
    note: str | None = field(default=None, metadata={"help": "What else a user should know."})

    @classmethod
    def from_dict(cls, values: Any, source: str) -> "SourcePart":
        return cls(**_checked(cls, values, source, "part", required=("name", "num_examples")))


@dataclass(frozen=True)
class Download:
    """One file or folder that a user has to fetch, and where it goes."""

    name: str = field(metadata={"help": "What it is."})
    url: str = field(metadata={"help": "Where it is."})
    target: str = field(metadata={"help": "File or folder to make of it, below the data root."})
    size: str = field(default=UNKNOWN, metadata={"help": "About how large."})
    revision: str | None = field(default=None, metadata={"help": "Commit of a repository."})
    license: str = field(default=UNKNOWN, metadata={"help": "Terms of the file."})
    note: str | None = field(default=None, metadata={"help": "What to watch out for."})

    @classmethod
    def from_dict(cls, values: Any, source: str) -> "Download":
        return cls(**_checked(cls, values, source, "download", required=("name", "url", "target")))

    def is_here(self, data_root: Path) -> bool:
        """Whether the target exists; a folder must hold something."""
        path = data_root / self.target
        return path.is_file() or (path.is_dir() and any(path.iterdir()))


def count_by_folder(parsed: ParsedSource, image_root: Path | None) -> Counter[str]:
    """Well-formed records by the first folder of their first image, whether the images are there or not."""
    names = [_first_folder(path, image_root) for path in parsed.image_paths]
    has_image = parsed.first_image[1:] > parsed.first_image[:-1]
    counts: Counter[str] = Counter()
    if has_image.any():
        known = sorted(set(names))
        place = {name: number for number, name in enumerate(known)}
        folder_of_image = np.array([place[name] for name in names])
        first = parsed.image_numbers[parsed.first_image[:-1][has_image]]
        for number, count in enumerate(np.bincount(folder_of_image[first], minlength=len(known)).tolist()):
            counts[known[number]] += count
    if not has_image.all():
        counts[NO_IMAGE] += int((~has_image).sum())
    return +counts


def published_counts(parts: list[SourcePart]) -> Counter[str]:
    """Records per image folder, as the parts add up."""
    counts: Counter[str] = Counter()
    for part in parts:
        counts[part.image_folder or NO_IMAGE] += part.num_examples
    return counts


def compare_with_published(
    name: str, num_read: int, counts: Counter[str], parts: list[SourcePart], *, by_folder: bool = True
) -> list[str]:
    """What is not as published, in words; an empty list means that every count is."""
    published = published_counts(parts)
    differences = []
    if num_read != published.total():
        differences.append(f"source {name!r} has {num_read:,} records; {published.total():,} were published")
    if by_folder:
        for folder in sorted({*published, *counts}):
            if counts[folder] != published[folder]:
                differences.append(
                    f"source {name!r} has {counts[folder]:,} records with images in {folder!r}; "
                    f"{published[folder]:,} were published"
                    if folder != NO_IMAGE
                    else f"source {name!r} has {counts[folder]:,} records without an image; "
                    f"{published[folder]:,} were published"
                )
    return differences


def _first_folder(path: str | None, image_root: Path | None) -> str:
    inside = path_in_root({"bytes": None, "path": path}, image_root)
    if inside is None:
        return "(bytes in the record)" if path is None else os.path.dirname(archive_of(path))
    return inside.partition("/")[0] if "/" in inside else "."


def _checked(cls: type, values: Any, source: str, noun: str, *, required: tuple[str, ...]) -> dict[str, Any]:
    known = {one.name for one in fields(cls)}
    if not isinstance(values, dict) or set(values) - known or not set(required) <= set(values):
        raise ValueError(
            f"source {source!r} has the {noun} {values!r}. It needs {', '.join(required)}; known are "
            f"{', '.join(sorted(known))}."
        )
    kinds: dict[str, Kind] = {name: "integer" if name == "num_examples" else "text" for name in known}
    check_fields(f"source {source!r}: the {noun} {shown(values['name'])}", values, kinds)
    return values


__all__ = [
    "Download",
    "NO_IMAGE",
    "SourcePart",
    "UNKNOWN",
    "compare_with_published",
    "count_by_folder",
    "published_counts",
]
