"""Complete checkpoint files that lack a vision tower with the tensors of the tower's own folder."""

import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

import torch
from safetensors import safe_open
from transformers import PreTrainedModel


def adapt_state_dict(
    model: PreTrainedModel,
    state_dict: dict[str, Any] | None,
    checkpoint_files: list[str] | None,
    adapters: Iterable[Callable[[PreTrainedModel, Any, Any], Any]],
) -> tuple[dict[str, Any] | None, list[str] | None]:
    """
    Lets readers of other layouts change what is loaded, then adds a vision tower that is not among it.

    Args:
        model, state_dict, checkpoint_files: See [`complete_state_dict`].
        adapters (`Iterable[Callable]`): Each takes the three and returns the tensors to load, or what it was given.

    Returns:
        The tensors, and the files. What an adapter has changed comes without files: transformers reads weights that a
        device map offloads to disk from there, as they lie.
    """
    for adapt in adapters:
        state_dict = adapt(model, state_dict, checkpoint_files)
    if state_dict is not None:
        return state_dict, None
    return complete_state_dict(model, state_dict, checkpoint_files), checkpoint_files


def complete_state_dict(
    model: PreTrainedModel, state_dict: dict[str, Any] | None, checkpoint_files: list[str] | None
) -> dict[str, Any] | None:
    """
    Adds the vision tower's tensors where the checkpoint has none.

    LLaVA 1.5 checkpoints hold projector and language model only; the tower is named in their configuration. It is read
    before the loader runs, so that dtype, device map, quantisation and ZeRO-3 treat its tensors like all others.

    Args:
        model (`PreTrainedModel`): The model that is being loaded; `config.vision_tower_name_or_path` names the tower.
        state_dict (`dict`, *optional*): Tensors given by the caller; used as they are.
        checkpoint_files (`list[str]`, *optional*): Files that the loader is about to read.

    Returns:
        `None` if the files are complete (the loader then reads them itself), else all tensors, read lazily.
    """
    tower_name = getattr(model.config, "vision_tower_name_or_path", None)
    if state_dict is not None or not checkpoint_files or not tower_name:
        return state_dict
    if any("vision_tower." in key for key in checkpoint_keys(checkpoint_files)):
        return None
    tower = type(model.base_model.vision_tower).from_pretrained(tower_name, dtype="auto")
    completed = lazy_state_dict(checkpoint_files)
    completed.update({f"model.vision_tower.{key}": value for key, value in tower.state_dict().items()})
    return completed


def checkpoint_keys(files: Iterable[str | os.PathLike[str]]) -> set[str]:
    """Names of all tensors in safetensors or `.bin` files, without reading the tensors."""
    keys: set[str] = set()
    for file in (os.fspath(file) for file in files):
        if file.endswith(".safetensors"):
            with safe_open(file, framework="pt") as tensors:
                keys.update(tensors.keys())
        else:
            keys.update(_load_bin(file, "meta"))
    return keys


def lazy_state_dict(files: Iterable[str | os.PathLike[str]]) -> dict[str, Any]:
    """All tensors of the files: safetensors as slices that are read on use, `.bin` memory-mapped."""
    state_dict: dict[str, Any] = {}
    for file in (os.fspath(file) for file in files):
        if file.endswith(".safetensors"):
            tensors = safe_open(file, framework="pt")
            state_dict.update({key: tensors.get_slice(key) for key in tensors.keys()})  # noqa: SIM118 (no mapping)
        else:
            state_dict.update(_load_bin(file, "cpu"))
    return state_dict


def _load_bin(file: str, device: str) -> dict[str, Any]:
    """Tensors only. Files of torch before 1.6 are no zip archives and cannot be memory-mapped."""
    return torch.load(file, map_location=device, weights_only=True, mmap=zipfile.is_zipfile(file))


def refused_pickle(name: Any, error: pickle.UnpicklingError) -> ValueError:
    """What to tell a user whose weight file is a pickle of more than tensors; nothing of it has been run."""
    wanted = re.search(r"GLOBAL (\S+)", str(error))
    asks = f"asks for `{wanted[1]}`" if wanted else "holds more than tensors"
    return ValueError(
        f"{name} is a pickle that {asks}. Reading it could run whatever its author put in, so it was refused and "
        "nothing of it was run. If you trust its source, have them save it as safetensors, or as a dictionary of "
        "tensors only."
    )


__all__ = ["adapt_state_dict", "checkpoint_keys", "complete_state_dict", "lazy_state_dict", "refused_pickle"]
