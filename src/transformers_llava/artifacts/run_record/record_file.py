"""Write `run.json`; read it unchecked where this machine wrote it, or checked field by field before a publication."""

import hashlib
import json
import logging
import os
from dataclasses import replace
from pathlib import Path

from transformers_llava.artifacts.atomic_write import write_atomically
from transformers_llava.artifacts.digests.file_digests import combined_digest, weight_digests
from transformers_llava.artifacts.digests.tensor_digests import RepeatedTensorError, tensor_digests
from transformers_llava.artifacts.limits import MAX_JSON_BYTES
from transformers_llava.artifacts.old_spellings import with_new_spellings
from transformers_llava.artifacts.run_record.field_checks import FieldError
from transformers_llava.artifacts.run_record.portable_values import replace_non_finite, without_absolute_paths
from transformers_llava.artifacts.run_record.record_schema import NEEDED, check_record
from transformers_llava.artifacts.run_record.recorded import RunRecordError
from transformers_llava.artifacts.run_record.run_stages import RunRecord
from transformers_llava.artifacts.untrusted import DocumentError, parse_json, read_bytes, read_json


logger = logging.getLogger(__name__)

RUN_NAME = "run.json"


def write_run_record(record: RunRecord, folder: str | os.PathLike) -> RunRecord:
    """
    Write `run.json` into a folder, with the digests of the weight files in that folder and of their tensors.

    Absolute paths are shortened, and NaN and infinity replaced, so that the file can be published as it is.

    Returns:
        `RunRecord`: The record with these digests.
    """
    folder = Path(folder)
    weights = weight_digests(folder)
    record = record.with_own(weights=weights, weights_sha256=combined_digest(weights), tensors=_tensor_digests(folder))
    values = replace_non_finite(without_absolute_paths(record.to_dict()))
    text = json.dumps(values, indent=2, ensure_ascii=False, default=str, allow_nan=False) + "\n"
    write_atomically(folder / RUN_NAME, text)
    return record


def _tensor_digests(folder: Path) -> dict[str, str]:
    """Tensor -> SHA-256; empty, with a warning, if two files have the same tensor: training must not fail here."""
    try:
        return tensor_digests(folder)
    except RepeatedTensorError as error:
        logger.warning("run.json has no digests of tensors, so `llava verify` compares files alone: %s", error)
        return {}


def has_run_record(folder: str | os.PathLike) -> bool:
    """Whether a folder has a `run.json`."""
    return (Path(folder) / RUN_NAME).is_file()


def read_run_record(folder: str | os.PathLike) -> RunRecord:
    """
    Read the record of a checkpoint without checking its values.

    A record of an older version is read too: absent fields have their defaults, old field names become today's.

    Raises:
        `FileNotFoundError`: There is no `run.json`.
        `RunRecordError`: It is no JSON, or does not have the form of a record.
    """
    try:
        values = with_new_spellings(read_json(Path(folder) / RUN_NAME), f"{RUN_NAME} of {Path(folder).name!r}")
        return RunRecord.from_dict(values)
    except DocumentError as error:
        raise RunRecordError(f"{RUN_NAME} of {Path(folder).name!r} cannot be read: {error}") from error


def read_checked_record(folder: Path) -> RunRecord:
    """
    Read the record of a checkpoint, check every field that this package uses, and demand what a publication needs.

    For a record that may come from the Hub. Its `sha256` is that of the file.

    Raises:
        `RunRecordError`: There is no `run.json`, a field that a publication needs is absent, or a value is malformed.
    """
    try:
        content = read_bytes(folder / RUN_NAME, MAX_JSON_BYTES)
        values = with_new_spellings(parse_json(content, str(folder / RUN_NAME)), f"{RUN_NAME} of {folder.name!r}")
    except FileNotFoundError as error:
        raise RunRecordError(
            f"{folder.name!r} has no {RUN_NAME}, so nobody could say how it was made. Publish what `llava train` has "
            "saved."
        ) from error
    except DocumentError as error:
        raise RunRecordError(f"{RUN_NAME} of {folder.name!r} cannot be read: {error}") from error
    missing = [name for name in NEEDED if not values.get(name)]
    if missing:
        raise RunRecordError(
            f"{RUN_NAME} of {folder.name!r} says nothing of {', '.join(missing)}, so the run cannot be repeated. It "
            "was written by an older version; train again with this one."
        )
    try:
        check_record(values)
    except FieldError as error:
        raise RunRecordError(
            f"{RUN_NAME} of {folder.name!r} is malformed: {error} Nothing of it is used; `llava train` writes no such "
            "record."
        ) from error
    return replace(RunRecord.from_dict(values), sha256=hashlib.sha256(content).hexdigest())


__all__ = [
    "RUN_NAME",
    "has_run_record",
    "read_checked_record",
    "read_run_record",
    "write_run_record",
]
