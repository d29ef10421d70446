"""Read a YAML file as a MixtureConfig: our own mixture files, and LLaVA-NeXT's lists of `json_path`."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

from transformers_llava.artifacts.untrusted import read_yaml
from transformers_llava.data.mixture.config import MixtureConfig
from transformers_llava.data.mixture.fields import shown
from transformers_llava.data.records.readers import HUB_SCHEME
from transformers_llava.packaged import file_or_packaged


_DATA_ROOT = "TRANSFORMERS_LLAVA_DATA"


def default_data_root() -> Path:
    """Where relative paths of a packaged mixture start: `TRANSFORMERS_LLAVA_DATA`, else the current folder."""
    return Path(os.environ.get(_DATA_ROOT) or ".")


def read_mixture_file(
    path: str | Path,
    *,
    data_root: str | Path | None = None,
    image_root: str | None = None,
    seed: int | None = None,
) -> MixtureConfig:
    """
    Read a mixture.

    ```yaml
    seed: 0
    sources:
      - name: captions
        path: captions.json        # relative to this file
        image_root: images.zip
        weight: 0.5
        license: CC BY 4.0
    ```

    A list without `sources:` is read as the sources. LLaVA-NeXT's files are read too: `datasets:` with `json_path` and
    `sampling_strategy`; there the draw is made from the usable records instead of all.

    Args:
        path (`str` or `Path`):
            The file, or the name of a packaged mixture.
        data_root (`str` or `Path`, *optional*):
            Where relative paths start. Default: the folder of the file; for a packaged mixture `default_data_root`.
        image_root (`str`, *optional*):
            For sources that name none (LLaVA-NeXT's files never do).
        seed (`int`, *optional*):
            For a file that names none.

    Raises:
        `ValueError`: the file is missing, no YAML, or not a mixture; with its name and the field.
    """
    path, root = find_mixture_file(path, data_root)
    values = read_yaml(path, kind=(dict, list, type(None)))
    if isinstance(values, list):
        values = {"sources": values}
    if isinstance(values, dict) and "datasets" in values:
        values = _from_llava_next(values, path)
    if not isinstance(values, dict) or not isinstance(values.get("sources"), list):
        raise ValueError(f"the mixture file {str(path)!r} has no list of `sources`. See `read_mixture_file`.")
    unknown = set(values) - {"sources", "seed", "row_order"}
    if unknown:
        raise ValueError(
            f"the mixture file {str(path)!r} has the unknown fields {sorted(map(str, unknown))}. Known are "
            "sources, seed and row_order."
        )
    sources: list[Any] = [_located(source, path, root, image_root) for source in values["sources"]]
    try:
        chosen = values.get("seed")
        return MixtureConfig(
            sources, seed=(seed or 0) if chosen is None else chosen, row_order=values.get("row_order") or "file"
        )
    except ValueError as error:
        raise ValueError(f"the mixture file {str(path)!r}: {error}") from error


def find_mixture_file(path: str | Path, data_root: str | Path | None = None) -> tuple[Path, Path]:
    """
    The file, and where its relative paths start. A file goes before a packaged mixture of the same name.

    Raises:
        `ValueError`: it is neither a file nor the name of a packaged mixture.
    """
    file = file_or_packaged("mixture", path)
    if data_root is not None:
        return file, Path(data_root)
    return file, file.parent if file == Path(path) else default_data_root()


def _located(source: Any, file: Path, root: Path, image_root: str | None) -> dict[str, Any]:
    """Relative paths start at the mixture file (or the data root), wherever the program was started."""
    if not isinstance(source, dict):
        raise ValueError(
            f"the mixture file {str(file)!r} has a source that is {shown(source)}, not a block of fields."
        )
    located = {"image_root": image_root, **source} if image_root is not None else dict(source)
    for name in ("path", "image_root"):
        value = located.get(name)
        if isinstance(value, str) and value and not value.startswith(HUB_SCHEME):
            located[name] = str(root / value)
    return located


def _from_llava_next(values: dict[str, Any], file: Path) -> dict[str, Any]:
    entries = values["datasets"]
    if set(values) != {"datasets"} or not isinstance(entries, list):
        raise ValueError(f"the mixture file {str(file)!r} has `datasets` beside {sorted(map(str, values))}.")
    sources: list[dict[str, Any]] = []
    names: Counter[str] = Counter()
    for entry in entries:
        if not isinstance(entry, dict) or set(entry) - {"json_path", "sampling_strategy"} or "json_path" not in entry:
            raise ValueError(
                f"the mixture file {str(file)!r} has {shown(entry)} under `datasets`; expected are `json_path` and "
                "`sampling_strategy`."
            )
        if not isinstance(entry["json_path"], str):
            raise ValueError(
                f"the mixture file {str(file)!r} has json_path={shown(entry['json_path'])}. It must be a path."
            )
        name = Path(entry["json_path"]).stem
        names[name] += 1
        sources.append(
            {
                "name": name if names[name] == 1 else f"{name}_{names[name]}",
                "path": entry["json_path"],
                "sampling": str(entry.get("sampling_strategy", "all")),
            }
        )
    return {"sources": sources}


__all__ = ["default_data_root", "find_mixture_file", "read_mixture_file"]
