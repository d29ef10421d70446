"""Describe the mixture that a run record holds: sources, their parts, and the license and origin of each."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

from transformers_llava.artifacts.run_record.recorded import Recorded, list_of


@dataclass(frozen=True)
class StatedData(Recorded):
    """
    A data set with the license and origin that its mixture file states: a whole source, or one part of it.

    Args:
        name (`str`): Name in the mixture file.
        num_examples (`int`, *optional*): Number of its examples.
        license, license_url, license_revision (`str`, *optional*): Its license, and the page and commit that state it.
        provenance (`str`, *optional*): Who wrote the answers.
        teacher, teacher_terms, teacher_terms_url (`str`, *optional*): The model that wrote the answers, if one did,
            and the terms for its output.
        images_license, images_license_url (`str`, *optional*): License of its images, where it differs.
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
    """A file that a source is made from, and the `url` to fetch it from; its size and license are in `to_dict()`."""

    url: str = ""


@dataclass(frozen=True)
class MixtureSource(StatedData):
    """
    One source of a mixture. Its other settings (`format`, `weight`, `filters`, ...) are in `to_dict()`.

    Args:
        path (`str`): The file of records, relative to the data folder, or `hf://datasets/OWNER/NAME`.
        image_root (`str`, *optional*): The folder of images, in the same form.
        remote_images (`str`, *optional*, defaults to `"refuse"`): `fetch` to download images from addresses in the
            records.
        parts (`tuple[StatedData]`): The data sets that it combines, if their licenses or origins differ.
        downloads (`tuple[Download]`): The files that it is made from.
    """

    path: str = ""
    image_root: str | None = None
    remote_images: str = "refuse"
    parts: tuple[StatedData, ...] = field(default=(), metadata=list_of(StatedData))
    downloads: tuple[Download, ...] = field(default=(), metadata=list_of(Download))

    @property
    def stated(self) -> tuple[StatedData, ...]:
        """The data sets whose license and origin count: the parts, or the source itself if it has none."""
        return self.parts or (self,)

    @property
    def paths(self) -> dict[str, str]:
        """Field -> value of `path` and, where it is set, `image_root`."""
        return {name: value for name in ("path", "image_root") if (value := getattr(self, name))}

    def with_paths(self, change: Callable[[str], str]) -> Self:
        """A copy of the source with `change` applied to `path` and, where it is set, to `image_root`."""
        root = self.image_root
        return replace(self, path=change(self.path), image_root=change(root) if root else root)


@dataclass(frozen=True)
class Mixture(Recorded):
    """The content of a mixture file: the sources that a stage was trained on."""

    sources: tuple[MixtureSource, ...] = field(default=(), metadata=list_of(MixtureSource))


def is_address(path: str) -> bool:
    """Whether `path` of a source names a data set on the Hub (`hf://...`) rather than a local file or folder."""
    return "://" in path


__all__ = ["Download", "Mixture", "MixtureSource", "StatedData", "is_address"]
