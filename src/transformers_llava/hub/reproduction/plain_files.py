"""Look at the files of a publication before anything reads them: plain ones of known kinds, and no code among them."""

import os
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

from transformers_llava.artifacts.digests.file_digests import is_commit
from transformers_llava.artifacts.limits import MAX_FOLDER_DEPTH, MAX_PUBLICATION_FILES, MAX_REPLAY_STEP_DIGITS
from transformers_llava.artifacts.run_record.record_file import RUN_NAME
from transformers_llava.artifacts.untrusted import DocumentError, read_json
from transformers_llava.data.images.archives import is_archive


# What Python, a loader or a shell would run or unpickle.
CODE = frozenset(
    (".py", ".pyc", ".pyo", ".pyw", ".pyd", ".pyi", ".pyx", ".so", ".dll", ".dylib", ".pth", ".egg", ".whl", ".exe")
    + (".pkl", ".pickle", ".joblib", ".dill", ".ckpt", ".pt2", ".bat", ".ps1", ".egg-link", ".ipynb")
)
DATA = frozenset((".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".csv", ".tsv"))
IMAGES = frozenset((".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".ppm", ".tif", ".tiff", ".avif"))

_CHECKPOINT = re.compile(rf"checkpoint-[0-9]{{1,{MAX_REPLAY_STEP_DIGITS}}}")
_OF_A_CHECKPOINT = re.compile(
    rf"trainable\.safetensors|model\.safetensors|{re.escape(RUN_NAME)}"
    r"|trainer_state\.json|optimizer\.pt|scheduler\.pt|scaler\.pt"
    r"|rng_state(_[0-9]{1,5})?\.pth"
)
_OF_A_MODEL = re.compile(
    r"(config|generation_config|processor_config|preprocessor_config|tokenizer|tokenizer_config|special_tokens_map"
    r"|added_tokens|vocab|chat_template)\.json|tokenizer\.model|spiece\.model|merges\.txt|vocab\.txt|chat_template\.jinja"
    r"|[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.safetensors(\.index\.json)?"
    r"|pytorch_model(-[0-9]{5}-of-[0-9]{5})?\.bin|pytorch_model\.bin\.index\.json"
)
_TORCH = (".pt", ".pth", ".bin")
# What numpy's arrays and random states are made of, beside torch's own allow-list; transformers reads with the same.
_OF_NUMPY = {
    *("numpy.ndarray", "numpy.dtype", "numpy.dtypes.UInt32DType"),
    *("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"),
}


class UnsafeFileError(ValueError):
    """A file of a publication is none that a reproduction may touch; says which and why."""


def check_plain(folder: Path) -> None:
    """
    Walks a publication without following a link or opening a file.

    Raises:
        `UnsafeFileError`: something is neither a file nor a folder, a link leads out of it, or code or a pickle lies
            in `recipe/`, where training works.
    """
    blobs = _blobs_of_snapshot(folder)
    root = folder.resolve()
    for number, path in enumerate(_entries(folder, 0)):
        name = path.relative_to(folder).as_posix()
        if number > MAX_PUBLICATION_FILES:
            raise UnsafeFileError(f"the publication has more than {MAX_PUBLICATION_FILES:,} files. It is not read.")
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            target = path.resolve()
            is_inside = any(target.is_relative_to(place) for place in (root, blobs) if place is not None)
            if not is_inside or not target.is_file():
                raise UnsafeFileError(
                    f"{name!r} is a link that leads out of the publication, so what lies there is not opened."
                )
        elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UnsafeFileError(f"{name!r} is neither a file nor a folder, but a special file. It is not opened.")
        if name.startswith("recipe/") and _is_code(path, name):
            raise UnsafeFileError(
                f"{name!r} is code or a pickle, which no recipe needs: settings and data are all that is used of a "
                "publication. It is not run, and nothing is trained beside it. Tell its authors."
            )


def model_files(folder: Path) -> list[Path]:
    """
    The files of a folder that make up a model: configuration, tokenizer, weights. Everything else is left behind.

    Raises:
        `UnsafeFileError`: an index of weights names a file elsewhere, or pickled weights hold more than tensors.
    """
    found = [path for path in sorted(folder.iterdir()) if _OF_A_MODEL.fullmatch(path.name) and path.is_file()]
    if any(path.name.endswith(".safetensors") for path in found):
        found = [path for path in found if ".bin" not in path.name]
    for path in found:
        if path.name.endswith(".index.json"):
            _check_index(path)
        elif path.suffix in _TORCH:
            check_torch_file(path)
    return found


def latest_checkpoint(recipe: Path) -> Path | None:
    """The published state with the highest step, by the number in its name."""
    found = [path for path in recipe.iterdir() if _CHECKPOINT.fullmatch(path.name) and path.is_dir()]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def checkpoint_files(folder: Path) -> list[Path]:
    """
    The files of a published state.

    Raises:
        `UnsafeFileError`: it holds something else, such as the pickled states of a sharded backend.
    """
    files = sorted(folder.iterdir())
    for path in files:
        if not _OF_A_CHECKPOINT.fullmatch(path.name) or not path.is_file():
            raise UnsafeFileError(
                f"{folder.name}/{path.name} is none of the files that a state is restored from safely (states of "
                "sharded backends are pickled). Reproduce without --replay."
            )
        if path.suffix in _TORCH:
            check_torch_file(path)
    return files


def data_files(place: Path, *, may_be_archive: bool) -> list[Path]:
    """
    The files of a source: the file itself, or those of known kinds below a folder.

    Raises:
        `UnsafeFileError`: a single file is of no known kind.
    """
    kinds = DATA | IMAGES
    if place.is_file():
        if place.suffix.lower() not in kinds and not (may_be_archive and is_archive(place)):
            raise UnsafeFileError(
                f"the data file {place.name!r} is of no kind that is read here: {', '.join(sorted(kinds))}."
            )
        return [place]
    files = [path for path in sorted(place.rglob("*")) if path.is_file() and path.suffix.lower() in kinds]
    for path in files:
        if path.name == "state.json":
            _check_state(path)
    return files


def check_torch_file(path: Path) -> None:
    """
    Reads which classes the pickle of a torch file would call, without calling one.

    Raises:
        `UnsafeFileError`: it would call others than tensors and random states are made of.
    """
    import torch

    try:
        if not zipfile.is_zipfile(path):
            raise UnsafeFileError(f"{path.name!r} is no archive as torch writes them. It is not read.")
        foreign = set(torch.serialization.get_unsafe_globals_in_checkpoint(path)) - _OF_NUMPY
    except UnsafeFileError:
        raise
    except Exception as error:  # of the reader, for a file that is none
        raise UnsafeFileError(
            f"{path.name!r} cannot be looked into ({type(error).__name__}). It is not read."
        ) from error
    if foreign:
        raise UnsafeFileError(
            f"{path.name!r} is a pickle that would call {', '.join(sorted(foreign)[:3])}. It is not read, and nothing "
            "is trained with it. Tell its authors."
        )


def _entries(folder: Path, depth: int) -> Iterator[Path]:
    if depth > MAX_FOLDER_DEPTH:
        raise UnsafeFileError(f"folders lie in each other more than {MAX_FOLDER_DEPTH} deep. It is not read.")
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry.path), depth + 1)


def _is_code(path: Path, name: str) -> bool:
    if path.suffix.lower() not in CODE:
        return False
    parts = name.split("/")
    is_state = len(parts) == 3 and _CHECKPOINT.fullmatch(parts[1]) and _OF_A_CHECKPOINT.fullmatch(parts[2])
    return not is_state


def _blobs_of_snapshot(folder: Path) -> Path | None:
    """Where the links of a folder in the Hub's cache lead: `models--X/snapshots/COMMIT` to `models--X/blobs`."""
    parents = folder.resolve().parents
    is_snapshot = len(parents) > 1 and parents[0].name == "snapshots" and is_commit(folder.name)
    return parents[1] / "blobs" if is_snapshot else None


def _check_index(path: Path) -> None:
    try:
        names = set(read_json(path).get("weight_map", {}).values())
    except (DocumentError, AttributeError, TypeError) as error:
        raise UnsafeFileError(f"{path.name!r} is no index of weights: {error}") from error
    for name in names:
        if not isinstance(name, str) or not _OF_A_MODEL.fullmatch(name):
            raise UnsafeFileError(
                f"{path.name!r} names {name!r}, which is no weight file beside it. It is not opened."
            )


def _check_state(path: Path) -> None:
    """Of a folder that `datasets` saved: its files lie beside it."""
    try:
        names = [one["filename"] for one in read_json(path)["_data_files"]]
    except (DocumentError, KeyError, TypeError) as error:
        raise UnsafeFileError(f"{path.name!r} of a data set cannot be read: {error!r}") from error
    if not all(isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) for name in names):
        raise UnsafeFileError(
            f"{path.name!r} of a data set names files elsewhere: {names[:3]!r}. They are not opened."
        )


__all__ = [
    "UnsafeFileError",
    "check_plain",
    "check_torch_file",
    "checkpoint_files",
    "data_files",
    "latest_checkpoint",
    "model_files",
]
