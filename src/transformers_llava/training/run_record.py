"""What was run, on what, from which data, and what came of it: `run.json` beside every checkpoint."""

import hashlib
import json
import logging
import math
import os
import platform
import re
import resource
import sys
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

import torch

from transformers_llava.conversion.tensor_digests import RepeatedTensorError, tensor_digests


logger = logging.getLogger(__name__)

FILE_NAME = "run.json"
SCHEMA_VERSION = 1

_PACKAGES = (
    "transformers-llava",
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "peft",
    "datasets",
    "tokenizers",
    "safetensors",
    "huggingface_hub",
    "numpy",
    "pillow",
)


@dataclass
class RunRecord:
    """
    The story of one training run, as plain JSON types.

    Contract: nothing in it names a machine, a person or a place. Paths are cut to their last part, so that the record
    can be published with the weights it belongs to, and two machines that do the same write the same settings.
    """

    stage: str | None
    recipe: dict[str, Any]  # what the person wrote
    configuration: dict[str, Any]  # every field as it was in force
    components: list[dict[str, Any]]
    data: dict[str, Any]
    seed: int
    versions: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    loss_history: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, str] = field(default_factory=dict)  # file -> sha256
    weights_sha256: str | None = None
    tensors: dict[str, str] = field(default_factory=dict)  # name -> sha256; the same in another layout or sharding
    command: str | None = None  # the line that a person typed
    base_models: list[dict[str, Any]] = field(default_factory=list)  # see `training.origins`
    mixture: dict[str, Any] | None = None  # what `train_data` named, as a mixture file has it
    mixture_lock: dict[str, Any] | None = None
    chat_template: str | None = None  # the text of a template that came from a file of the person's own
    environment: dict[str, str] = field(default_factory=dict)  # every installed package
    previous: list[dict[str, Any]] = field(default_factory=list)  # records of the stages before, the first one first

    def write(self, folder: str | os.PathLike) -> Path:
        """
        Writes `run.json` into a folder, with the digests of the weight files that lie there and of their tensors.

        Returns:
            `Path`: The file.
        """
        folder = Path(folder)
        self.weights = weight_digests(folder)
        self.weights_sha256 = combined_digest(self.weights)
        self.tensors = _tensor_digests(folder)
        values = without_places({"schema_version": SCHEMA_VERSION, **asdict(self)})
        values = numbers_of_json(values)
        path = folder / FILE_NAME
        unfinished = path.with_suffix(".json.part")
        text = json.dumps(values, indent=2, ensure_ascii=False, default=str, allow_nan=False) + "\n"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)  # a reader sees the old record or the new one, never half of one
        return path


def _tensor_digests(folder: Path) -> dict[str, str]:
    """Of every tensor; without one where the folder is not of one checkpoint: a run must not end for its record."""
    try:
        return tensor_digests(folder)
    except RepeatedTensorError as error:
        logger.warning("run.json has no digests of tensors, so `llava verify` compares files alone: %s", error)
        return {}


def numbers_of_json(value: Any) -> Any:
    """
    JSON has no word for NaN and infinity: `null` stands in their place, and `not_finite` beside it says which it was.

    ```python
    >>> numbers_of_json({"step": 3, "loss": math.nan})
    {'step': 3, 'loss': None, 'not_finite': {'loss': 'nan'}}
    ```
    """
    if isinstance(value, dict):
        named = {key: str(one) for key, one in value.items() if _is_no_number(one)}
        plain = {key: numbers_of_json(one) for key, one in value.items()}
        return {**plain, "not_finite": named} if named else plain
    if isinstance(value, list | tuple):
        return [numbers_of_json(one) for one in value]
    return None if _is_no_number(value) else value


def _is_no_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def read_run_record(folder: str | os.PathLike) -> dict[str, Any]:
    """The record beside a checkpoint, as written."""
    return json.loads((Path(folder) / FILE_NAME).read_text(encoding="utf-8"))


def weight_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every safetensors file of a folder: what `sha256sum`, and the Hub, show for it."""
    digests = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def combined_digest(digests: dict[str, str]) -> str | None:
    """One digest for all weight files: of a single file its own, of several that of their `sha256sum` listing."""
    if len(digests) <= 1:
        return next(iter(digests.values()), None)
    listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(listing.encode()).hexdigest()


def package_versions() -> dict[str, str]:
    """Versions of Python and of every package that has a part in the result."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def installed_packages() -> dict[str, str]:
    """Name and version of every package of this environment; not where they came from."""
    found = {
        (package.metadata["Name"] or "").lower().replace("_", "-"): package.version for package in distributions()
    }
    return {name: found[name] for name in sorted(found) if name}


def hardware(world_size: int, backend: str) -> dict[str, Any]:
    """What kind of machine it was; not which."""
    has_gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if has_gpu else "cpu",
        "world_size": world_size,
        "backend": backend,
        "cpu_threads": torch.get_num_threads(),
        "architecture": platform.machine(),
    }


def peak_memory_gb() -> float:
    """Most memory this process held so far, in 10^9 bytes: of the GPU where there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss counts kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def without_places(value: Any) -> Any:
    """
    JSON values with every absolute path cut to its last part, also in the middle of a sentence.

    ```python
    >>> without_places({"path": "/home/me/data/train.json", "text": "file '/data/a.jpg' is empty", "rate": "1/2"})
    {'path': 'train.json', 'text': "file 'a.jpg' is empty", 'rate': '1/2'}
    ```
    """
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(item) for item in value]
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        return value
    if (os.path.isabs(value) or value.startswith("~")) and "\n" not in value:
        return last_part(value)
    value = _QUOTED_PATH.sub(lambda match: match[1] + last_part(match[2]) + match[1], value)
    return _ABSOLUTE_PATH.sub(lambda match: last_part(match.group()), value)


def last_part(path: str) -> str:
    """The name of a file or folder; `~` for a user's own folder, whose name is the user's."""
    is_home = _HOME.fullmatch(path.rstrip("/")) is not None or path.rstrip("/") == str(Path.home())
    return "~" if is_home else Path(path).name


_HOMES = r"/(?:home|Users|export/home)"
_HOME = re.compile(rf"~|/root|{_HOMES}/[^/]+")
# A folder may have spaces in its name ('/Users/john smith/x'): words are one part of a path if a slash follows.
_WORD = r"[\w.+@%=-]+"
_PART = rf"(?:{_WORD}(?: {_WORD}){{0,4}}(?=/)|{_WORD})"
# Two or more parts behind a slash that starts a word: '/data/a.jpg'; not 'and/or', 'https://host/page', '</s>'.
_ABSOLUTE_PATH = re.compile(rf"(?<![\w/.:<~\\])~?(?:/{_PART}){{2,}}")
_QUOTED_PATH = re.compile(r"""(['"`])(~?/(?:(?!\1)[^/\n])+/(?:(?!\1)[^\n])*)\1""")  # whatever is in it


__all__ = [
    "FILE_NAME",
    "SCHEMA_VERSION",
    "RunRecord",
    "combined_digest",
    "hardware",
    "installed_packages",
    "last_part",
    "numbers_of_json",
    "package_versions",
    "peak_memory_gb",
    "read_run_record",
    "weight_digests",
    "without_places",
]
