"""Read an accelerate configuration as data: what decides how training is launched, checked and typed."""

from pathlib import Path
from typing import Any

from transformers_llava.artifacts.untrusted import DocumentError, read_yaml
from transformers_llava.cli.errors import CommandError


_KINDS = ("NO", "MULTI_GPU", "MULTI_CPU", "FSDP", "DEEPSPEED", "MEGATRON_LM")
_NUMBERS = ("num_processes", "num_machines")
_SECTIONS = ("fsdp_config", "deepspeed_config")


def read_accelerate_config(path: Path) -> dict[str, Any]:
    """
    The settings of a file, with whole numbers and switches where accelerate expects them.

    Raises:
        `CommandError`: the file is no YAML mapping, or a setting cannot be meant; names the file and the setting.
    """
    try:
        settings: dict[str, Any] = read_yaml(path, kind=(dict, type(None))) or {}
    except (DocumentError, OSError) as error:
        raise CommandError(
            f"the accelerate configuration cannot be read: {error} Write one with `accelerate config`, or use a "
            "packaged one (`--accelerate_config ddp`)."
        ) from error
    for name in _NUMBERS:
        if name in settings:
            settings[name] = _whole_number(settings[name], name, path)
    for name in _SECTIONS:
        if not isinstance(settings.get(name, {}), dict):
            raise _refusal(settings[name], name, "a mapping", path)
    version = settings.get("fsdp_config", {}).get("fsdp_version", 1)
    if version not in (1, 2):
        raise _refusal(version, "fsdp_version", "1 or 2", path)
    stage = settings.get("deepspeed_config", {}).get("zero_stage", 2)
    if str(stage) not in ("0", "1", "2", "3"):
        raise _refusal(stage, "zero_stage", "0, 1, 2 or 3", path)
    if not isinstance(settings.get("gpu_ids", "all"), str | int | None):
        raise _refusal(settings["gpu_ids"], "gpu_ids", "`all`, or numbers with commas between them", path)
    if not isinstance(settings.get("use_cpu", False), bool):
        raise _refusal(settings["use_cpu"], "use_cpu", "true or false", path)
    kind = settings.get("distributed_type", "NO")
    kind = "NO" if kind is False else kind  # YAML reads an unquoted NO as false
    if kind not in _KINDS:
        raise _refusal(kind, "distributed_type", f"one of {', '.join(_KINDS)}", path)
    settings["distributed_type"] = kind
    return settings


def _whole_number(value: Any, name: str, path: Path) -> int:
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _refusal(value, name, "a whole number from 1 on", path)
    return value


def _refusal(value: Any, name: str, wanted: str, path: Path) -> CommandError:
    return CommandError(
        f"the accelerate configuration {str(path)!r} has `{name}: {value!r}`, where {wanted} is expected; accelerate "
        "could not launch with it, or would launch something else. Correct it."
    )


__all__ = ["read_accelerate_config"]
