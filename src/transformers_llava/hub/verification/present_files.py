"""List what lies in a publication without opening anything, and tell what must not be opened."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from transformers_llava.artifacts.limits import MAX_PUBLICATION_ENTRIES
from transformers_llava.hub.publication.manifest import NOT_LISTED_FOLDERS


class TooManyFilesError(ValueError):
    """The folder holds more than a publication can."""


@dataclass
class PresentFiles:
    """
    What lies in a folder.

    Args:
        sizes (`dict[str, int]`): Path -> size of every file; links are followed inside the folder alone.
        folders (`set[str]`): Paths of folders.
        refused (`dict[str, str]`): Path -> why it is not opened.
        aside (`dict[str, int]`): Folder of git or of the Hub's client -> number of its files; no loader reads them.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    aside: dict[str, int] = field(default_factory=dict)

    def holds(self, name: str) -> bool:
        """Whether it was listed: a name that leads anywhere else is not, and nothing is looked up on the disk."""
        return name in self.sizes or name in self.folders


def list_present(folder: Path) -> PresentFiles:
    """
    Walk a folder; nothing is opened, and no link is followed out of it.

    In the Hub's cache every file of a snapshot is a link into `blobs/`: these are followed.

    Raises:
        `TooManyFilesError`: more than `MAX_PUBLICATION_ENTRIES` files and folders.
    """
    present, count = PresentFiles(), 0
    roots = _roots(folder)
    for parent, folders, files in os.walk(folder):
        count += len(folders) + len(files)
        if count > MAX_PUBLICATION_ENTRIES:
            raise TooManyFilesError(
                f"{folder.name!r} holds more than {MAX_PUBLICATION_ENTRIES:,} files and folders, which no publication "
                "does. Name the folder of the publication itself."
            )
        for name in [*folders, *files]:
            path = Path(parent, name)
            _note(path, path.relative_to(folder).as_posix(), roots, present)
    for aside in NOT_LISTED_FOLDERS:
        inside = [name for name in present.sizes if name.startswith(f"{aside}/")]
        if inside:
            present.aside[aside] = len(inside)
            for name in inside:
                del present.sizes[name]
    return present


def _roots(folder: Path) -> list[Path]:
    """Folders that links may lead into: the publication, and the blobs of the cache that holds it."""
    folder = folder.absolute()
    roots, repository = [folder.resolve()], folder.parent.parent
    if folder.parent.name == "snapshots":  # blobs of the repository, and those that all repositories share
        roots += [blobs.resolve() for blobs in (repository / "blobs", repository.parent / "blobs") if blobs.is_dir()]
    return roots


def _note(path: Path, name: str, roots: list[Path], present: PresentFiles) -> None:
    try:
        if path.is_symlink():
            target = path.resolve()
            if not any(target.is_relative_to(root) for root in roots):
                present.refused[name] = "it is a link that leads out of the publication; it is not opened"
                return
            if target.is_dir():
                present.refused[name] = "it is a link to a folder; it is not opened"
                return
        state = path.stat()
    except (OSError, RuntimeError) as error:
        present.refused[name] = f"it cannot be looked at ({type(error).__name__}: {error})"
        return
    if stat.S_ISREG(state.st_mode):
        present.sizes[name] = state.st_size
    elif stat.S_ISDIR(state.st_mode):
        present.folders.add(name)
    else:
        present.refused[name] = "it is neither a file nor a folder; it is not opened"


__all__ = ["PresentFiles", "TooManyFilesError", "list_present"]
