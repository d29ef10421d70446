"""Check every field of a run record, so that code which reads one meets no value of an unexpected type or size."""

import re
import shlex
from pathlib import PurePosixPath
from typing import Any

from transformers_llava.artifacts.limits import (
    MAX_BATCH,
    MAX_COMMAND_LENGTH,
    MAX_LOGGED_STEPS,
    MAX_PACKAGES,
    MAX_PROCESSES,
    MAX_SOURCES,
    MAX_STAGES,
    MAX_TEMPLATE_LENGTH,
    MAX_WEIGHT_FILES,
)
from transformers_llava.artifacts.run_record.base_model import ROLES
from transformers_llava.artifacts.run_record.field_checks import (
    FieldCheck,
    FieldError,
    anything,
    flag,
    line,
    listing,
    mapping,
    mapping_of,
    matching,
    number,
    one_of,
    optional,
    shown,
    text,
    whole,
)
from transformers_llava.artifacts.untrusted import DocumentError, checked_name


# Without these a run cannot be repeated. Older versions did not write them, so `read_checked_record` looks for them
# before the check below, to say that in its error.
NEEDED = ("configuration", "base_models", "mixture", "environment")

_SHA256 = matching(r"[0-9a-f]{64}", "64 hexadecimal digits")
_COMMIT = matching(r"[0-9a-f]{40}", "the 40 hexadecimal digits of a commit")
_HUB_ID = matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,95})?", "OWNER/NAME on the Hub")
_HUB_DATA = re.compile(
    r"hf://datasets/[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*(@[0-9a-f]{40})?(/[^\\]+)?"
)
_PACKAGE = matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}", "the name of a package")
_VERSION = matching(r"[A-Za-z0-9][A-Za-z0-9.+!~_-]{0,200}", "a version")
_WEIGHT_FILE = matching(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.safetensors", "the name of a safetensors file")
_FREE_TEXT = text(20_000)  # license terms, notes


def stage_name(value: Any, name: str) -> None:
    """Accept a name that is safe as a part of a file name, for it becomes one."""
    try:
        checked_name(value, f"`{name}`")
    except DocumentError as error:
        raise FieldError(str(error)) from error


def data_path(value: Any, name: str) -> None:
    """Accept a POSIX path that stays inside the data folder, or `hf://datasets/OWNER/NAME`."""
    line(4096)(value, name)
    if "://" in value:
        if not _HUB_DATA.fullmatch(value) or ".." in PurePosixPath(value).parts:
            raise FieldError(f"`{name}` is {shown(value)}; the only addresses are hf://datasets/OWNER/NAME.")
        return
    parts = PurePosixPath(value).parts
    if not parts or parts[0] == "/" or ".." in parts or "\\" in value or re.match(r"[A-Za-z]:", value):
        raise FieldError(f"`{name}` is {shown(value)}, which is no path inside the data folder. It is not opened.")


def _command(value: Any, name: str) -> None:
    text(MAX_COMMAND_LENGTH)(value, name)
    try:
        shlex.split(value)
    except ValueError as error:
        raise FieldError(f"`{name}` is {shown(value)}, which is no command line ({error}).") from error


def _base_model(value: Any, name: str) -> None:
    mapping(
        {
            "role": one_of(*ROLES),
            "name": line(),
            "origin": one_of("hub", "folder"),
            "revision": optional(_COMMIT),
            "digest": optional(_SHA256),
        },
        {"weights_sha256": optional(_SHA256)},
    )(value, name)
    if value["origin"] == "hub":
        _HUB_ID(value["name"], f"{name}.name")


def _base_models(value: Any, name: str) -> None:
    listing(_base_model, least=1, most=len(ROLES))(value, name)
    roles = [base["role"] for base in value]
    if len(set(roles)) < len(roles):
        raise FieldError(f"`{name}` names a role twice: {', '.join(roles)}.")


def _source(value: Any, name: str) -> None:
    mapping({"name": line(), "path": data_path}, _SOURCE)(value, name)
    # A source without `image_root` has its images packed as `NAME/images`, so its name must be safe as a path, too.
    data_path(value["name"], f"{name}.name")


_COUNTS = mapping_of(_FREE_TEXT, whole(), most=MAX_SOURCES)
_STATED: dict[str, FieldCheck] = dict.fromkeys(
    ("license", "license_url", "license_revision", "provenance", "teacher", "teacher_terms"), optional(_FREE_TEXT)
)
_PART = mapping(
    {"name": line(), "num_examples": whole()},
    {
        **_STATED,
        **dict.fromkeys(
            ("image_folder", "images_license", "images_license_url", "teacher_terms_url", "note"), optional(_FREE_TEXT)
        ),
    },
)
_DOWNLOAD = mapping(
    dict.fromkeys(("name", "url", "target"), _FREE_TEXT),
    dict.fromkeys(("size", "revision", "license", "note"), optional(_FREE_TEXT)),
)
_FILTERS = mapping(
    {},
    {
        "has_image": optional(flag),
        "image_folders": optional(listing(line(4096), most=MAX_SOURCES)),
        **dict.fromkeys(("min_rounds", "max_rounds", "max_characters", "max_images"), optional(whole())),
    },
)
_SOURCE: dict[str, FieldCheck] = {
    **_STATED,
    "format": one_of("auto", "llava", "sharegpt", "messages"),
    "image_root": optional(data_path),
    "num_examples": optional(whole(1)),
    "weight": optional(number()),
    "num_tokens": optional(whole(1)),
    "sampling": optional(line()),
    "seed": optional(whole(-(2**63))),
    "revision": optional(line()),
    "split": line(),
    "verify_images": one_of("decode", "header", "none"),
    "remote_images": one_of("refuse", "fetch"),
    "duplicate_ids": one_of("keep", "drop"),
    "collapse_markers": flag,
    "filters": optional(_FILTERS),
    "parts": listing(_PART, most=MAX_SOURCES),
    "downloads": listing(_DOWNLOAD, most=MAX_SOURCES),
}
_MIXTURE = mapping(
    {"sources": listing(_source, least=1, most=MAX_SOURCES)},
    {"seed": whole(-(2**63)), "row_order": one_of("file", "content")},
)
_LOCKED_SOURCE = mapping(
    {"name": line(), "digest": line(), "digest_covers": line()},
    {
        "proportion": optional(number()),
        "proportion_of_tokens": optional(number()),
        **dict.fromkeys(("dropped", "filtered", "notes"), _COUNTS),
        "parts": listing(_PART, most=MAX_SOURCES),
        **_STATED,
    },
    others=anything,
)
_LENGTHS = mapping(
    {
        **dict.fromkeys(("max_length", "too_long", "num_examples", "num_tokens", "num_truncated"), anything),
        "dropped": anything,
        "rows_digest": anything,
    },
    others=anything,
)
_LOCK = mapping(
    {
        "seed": whole(-(2**63)),
        "row_order": line(),
        "order_digest": line(),
        "sources": listing(_LOCKED_SOURCE, least=1, most=MAX_SOURCES),
    },
    {"lengths": optional(_LENGTHS)},
    others=anything,
)
_COUNTED_SOURCE = mapping(
    {"name": line()},
    {
        "num_used": optional(whole()),
        "num_images": optional(whole()),
        "proportion": optional(number()),
        "digest": optional(line()),
    },
    others=anything,
)
_CONFIGURATION = mapping(
    dict.fromkeys(("per_device_train_batch_size", "gradient_accumulation_steps"), whole(1, MAX_BATCH)),
    {"chat_template": optional(line(4096))},
    others=anything,
)
_REQUIRED: dict[str, FieldCheck] = {
    "configuration": _CONFIGURATION,
    "recipe": mapping({}, others=anything),
    "base_models": _base_models,
    "mixture": _MIXTURE,
    "environment": mapping_of(_PACKAGE, optional(_VERSION), most=MAX_PACKAGES),
    "components": listing(
        mapping({"component": line(), "mode": line(), "parameters": whole(), "trainable": whole()}, others=anything),
        most=100,
    ),
    "data": mapping(
        {},
        {
            "sources": listing(_COUNTED_SOURCE, most=MAX_SOURCES),
            "num_used": whole(),
            "num_dropped": whole(),
            "streaming": flag,
        },
        others=anything,
    ),
    "versions": mapping_of(_PACKAGE, _VERSION, most=MAX_PACKAGES),
    "hardware": mapping(
        {"device": line()},
        {
            "world_size": whole(1, MAX_PROCESSES),
            "cpu_threads": whole(1, MAX_PROCESSES),
            "architecture": line(),
            "backend": anything,
        },
        others=anything,
    ),
    "progress": mapping(
        {},
        {
            **dict.fromkeys(("global_step", "num_tokens"), whole()),
            **dict.fromkeys(("seconds", "peak_memory_gb"), optional(number())),
        },
        others=anything,
    ),
    "loss_history": listing(
        mapping({"step": whole()}, {"loss": optional(number(finite=False))}, others=anything), most=MAX_LOGGED_STEPS
    ),
    "weights": mapping_of(_WEIGHT_FILE, _SHA256, most=MAX_WEIGHT_FILES),
}
_OPTIONAL: dict[str, FieldCheck] = {
    "schema_version": whole(1, 1),
    "stage": optional(stage_name),
    "command": optional(_command),
    "mixture_lock": optional(_LOCK),
    "chat_template": optional(text(MAX_TEMPLATE_LENGTH)),
    "seed": whole(-(2**63)),
    "weights_sha256": optional(_SHA256),
}
# Only the last stage lists the earlier ones; each of those has an empty `previous`, so a record cannot nest deeper.
_EARLIER_STAGE = mapping(_REQUIRED, {**_OPTIONAL, "previous": listing(anything, most=0)}, others=anything)
_RECORD = mapping(_REQUIRED, {**_OPTIONAL, "previous": listing(_EARLIER_STAGE, most=MAX_STAGES - 1)}, others=anything)


def check_record(run: Any) -> None:
    """
    Check a run record, its earlier stages included.

    Args:
        run (`Any`): The parsed `run.json`.

    Raises:
        `FieldError`: A field is missing or has an invalid value; names the first such field (`previous[0].stage`).
    """
    _RECORD(run, "")
    for value in _texts(run):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise FieldError(f"the text {shown(value)} in it is no Unicode ({error.reason}).") from error


def _texts(value: Any) -> list[str]:
    """Every text of a document, keys included."""
    texts, left = [], [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            texts.append(one)
        elif isinstance(one, dict):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            left += one
    return texts


__all__ = ["NEEDED", "check_record", "data_path", "stage_name"]
