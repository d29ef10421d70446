"""Decide whether a user wants an Example: filters of a source, counted by name, never mistaken for defects."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from transformers_llava.data.images.paths import path_in_root
from transformers_llava.data.mixture.fields import shown
from transformers_llava.data.schema import Example


@dataclass(frozen=True)
class RecordFilter:
    """What a record must be like to be used. A field that is not set asks for nothing."""

    has_image: bool | None = field(default=None, metadata={"help": "true: only with an image; false: only without."})
    image_folders: tuple[str, ...] | None = field(
        default=None,
        metadata={"help": "Only records whose images all lie in one of these folders of the image root."},
    )
    min_rounds: int | None = field(default=None, metadata={"help": "Least answers in the dialogue."})
    max_rounds: int | None = field(default=None, metadata={"help": "Most answers in the dialogue."})
    max_characters: int | None = field(default=None, metadata={"help": "Most characters of the whole dialogue."})
    max_images: int | None = field(default=None, metadata={"help": "Most images."})

    @classmethod
    def from_dict(cls, values: Any, source: str) -> "RecordFilter":
        """Raises `ValueError` for what is no filter."""
        known = {one.name for one in fields(cls)}
        if not isinstance(values, dict) or set(values) - known:
            raise ValueError(f"source {source!r} has filters={values!r}. Known are {', '.join(sorted(known))}.")
        folders = values.get("image_folders")
        if folders is not None:
            folders = [folders] if isinstance(folders, str) else folders
            if not isinstance(folders, list | tuple) or not all(isinstance(folder, str) for folder in folders):
                raise ValueError(
                    f"source {source!r} filters by image_folders={shown(folders)}. Give the names of folders."
                )
            values = {**values, "image_folders": tuple(folder.strip("/") for folder in folders)}
        if not isinstance(values.get("has_image"), bool | None):
            raise ValueError(f"source {source!r} filters by has_image={values['has_image']!r}. Use true or false.")
        for name in known - {"has_image", "image_folders"}:
            value = values.get(name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise ValueError(f"source {source!r} filters by {name}={value!r}. Use a whole number.")
        return cls(**values)

    def unmet(self, example: Example, image_root: Path | None) -> str | None:
        """The first condition that the example does not meet, by name."""
        num_images = len(example["images"])
        if self.has_image is not None and bool(num_images) != self.has_image:
            return "has_image"
        if self.image_folders is not None:
            for image in example["images"]:
                inside = path_in_root(image, image_root)
                if inside is None or not any(inside.startswith(f"{folder}/") for folder in self.image_folders):
                    return "image_folders"
        if self.max_images is not None and num_images > self.max_images:
            return "max_images"
        num_rounds = sum(message["role"] == "assistant" for message in example["messages"])
        if self.min_rounds is not None and num_rounds < self.min_rounds:
            return "min_rounds"
        if self.max_rounds is not None and num_rounds > self.max_rounds:
            return "max_rounds"
        if self.max_characters is not None:
            num_characters = sum(len(p.get("text") or "") for m in example["messages"] for p in m["content"])
            if num_characters > self.max_characters:
                return "max_characters"
        return None

    def to_dict(self) -> dict[str, Any]:
        """What is set, as plain JSON types."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if value is not None
        }


__all__ = ["RecordFilter"]
