"""Describe the mixture of a stage as its record has it: sources, their parts, and what was stated of each."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

from transformers_llava.artifacts.run_record.recorded import Recorded, list_of


@dataclass(frozen=True)
class StatedData(Recorded):
    """
    A data set with what was stated of it: a part of a source, or a source as a whole.

    Args:
        name (`str`): What it is called.
        num_examples (`int`, *optional*): How many it has.
        license, license_url, license_revision (`str`, *optional*): Its license and where that was read.
        provenance (`str`, *optional*): Who wrote the answers.
        teacher, teacher_terms, teacher_terms_url (`str`, *optional*): The model that wrote them, and its terms.
        images_license, images_license_url (`str`, *optional*): Of its images, where they have one of their own.
    """

    name: str
    num_examples: int | None = None
    license: str | None = None
    license_url: str | None = None
    license_revision: str | None = None
    provenance: str | None = None
    teacher: str | None = None
    teacher_terms: str | None = None
    teacher_terms_url: str | None = None
    images_license: str | None = None
    images_license_url: str | None = None


@dataclass(frozen=True)
class Download(Recorded):
    """A file that a source is made from; `url` is where it is fetched."""

    url: str = ""


@dataclass(frozen=True)
class MixtureSource(StatedData):
    """
    One source. Its other settings (`format`, `weight`, `filters`, ...) are in `to_dict()`.

    Args:
        path (`str`): Of the data, below the data folder, or `hf://datasets/OWNER/NAME`.
        image_root (`str`, *optional*): Of the images, in the same form.
        remote_images (`str`): `fetch` where images are read from the addresses in the records.
        parts (`tuple[StatedData]`): What it is made of, where its parts have terms of their own.
        downloads (`tuple[Download]`): Where its files come from.
    """

    path: str = ""
    image_root: str | None = None
    remote_images: str = "refuse"
    parts: tuple[StatedData, ...] = field(default=(), metadata=list_of(StatedData))
    downloads: tuple[Download, ...] = field(default=(), metadata=list_of(Download))

    @property
    def stated(self) -> "tuple[StatedData, ...]":
        """What terms are stated for: the parts, or the source itself where it has none."""
        return self.parts or (self,)

    @property
    def paths(self) -> dict[str, str]:
        """`path` and, where there is one, `image_root`."""
        return {name: value for name in ("path", "image_root") if (value := getattr(self, name))}

    def with_paths(self, change: Callable[[str], str]) -> Self:
        """The same source with `path` and, where there is one, `image_root` changed."""
        root = self.image_root
        return replace(self, path=change(self.path), image_root=change(root) if root else root)


@dataclass(frozen=True)
class Mixture(Recorded):
    """What a stage was trained on, as a mixture file has it."""

    sources: tuple[MixtureSource, ...] = field(default=(), metadata=list_of(MixtureSource))


def is_address(path: str) -> bool:
    """Whether a path of a mixture is an address on the Hub, and no file or folder."""
    return "://" in path


__all__ = ["Download", "Mixture", "MixtureSource", "StatedData", "is_address"]
