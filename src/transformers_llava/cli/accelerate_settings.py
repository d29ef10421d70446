"""Read an accelerate configuration as data, and refuse what accelerate could not do or would quietly not do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers_llava.artifacts.untrusted import DocumentError, read_yaml
from transformers_llava.cli.errors import CommandError
from transformers_llava.cli.extras import require_extra


_KINDS = ("NO", "MULTI_GPU", "MULTI_CPU", "FSDP", "DEEPSPEED", "MEGATRON_LM")
# Settings that decide nothing in one process but where it runs; with another one accelerate launches.
_PLAIN = {"compute_environment", "distributed_type", "use_cpu", "gpu_ids", "num_machines", "num_processes"}
_SEVERAL_GPUS = ("MULTI_GPU", "FSDP", "DEEPSPEED", "MEGATRON_LM")


@dataclass(frozen=True)
class AccelerateConfig:
    """
    What decides how training is launched.

    Args:
        name (`str`): What the user called the configuration: a packaged name or a file.
        distributed_type (`str`, *optional*, defaults to `"NO"`): As accelerate spells it, such as `FSDP`.
        num_processes (`int`, *optional*, defaults to 1): Of all machines.
        num_machines (`int`, *optional*, defaults to 1): How many there are.
        use_cpu (`bool`, *optional*, defaults to `False`): Whether GPUs stay unused.
        gpu_ids (`str`, *optional*, defaults to `"all"`): Numbers with commas between them, or `all`.
        fsdp_version (`int`, *optional*, defaults to 1): Of FSDP; accelerate's own default.
        zero_stage (`int`, *optional*, defaults to 2): Of DeepSpeed.
        is_plain (`bool`, *optional*, defaults to `False`): Whether the file has no setting beside these that a single
            process could need, so that it can be started without accelerate's launcher.
    """

    name: str
    distributed_type: str = "NO"
    num_processes: int = 1
    num_machines: int = 1
    use_cpu: bool = False
    gpu_ids: str = "all"
    fsdp_version: int = 1
    zero_stage: int = 2
    is_plain: bool = False

    @property
    def backend(self) -> str:
        """The packaged configuration that this one amounts to, for plans."""
        if self.distributed_type == "DEEPSPEED":
            return "zero3" if self.zero_stage == 3 else "zero2"
        if self.distributed_type == "NO":
            return "cpu" if self.use_cpu else "single_gpu"
        return "fsdp2" if self.distributed_type == "FSDP" else "ddp"

    def describe(self) -> str:
        """One line: what will really run."""
        if self.distributed_type not in _SEVERAL_GPUS:
            return f"{self.name}: 1 process on 1 {'CPU' if self.use_cpu else 'GPU'}"
        return (
            f"{self.name}: {self.distributed_type}, {self.num_processes} processes on {self.num_processes} GPUs of "
            f"{self.num_machines} machine(s)"
        )

    def check(self, num_gpus: int) -> None:
        """
        Refuse what accelerate would accept and then not do.

        On a machine without a GPU it ignores FSDP and DeepSpeed, and starts one process where several are asked for;
        all without a word.

        Args:
            num_gpus (`int`): Of this machine.

        Raises:
            `CommandError`: with what would happen, and what to change.
        """
        kind, asks = self.distributed_type, f"the accelerate configuration {self.name!r}"
        if self.num_processes < 1 or self.num_machines < 1:
            raise CommandError(
                f"{self.num_processes} processes on {self.num_machines} machines were asked for, and nothing would "
                "train. Give `--num_processes` and `--num_machines` of 1 or more."
            )
        if self.use_cpu and kind in _SEVERAL_GPUS:
            raise CommandError(
                f"{asks} asks for {kind} and for `use_cpu: true`; accelerate would ignore {kind} and train unsharded. "
                "Remove one of the two."
            )
        if not self.use_cpu and num_gpus == 0:
            raise CommandError(
                f"{asks} needs a GPU and none is visible; accelerate would quietly train on the CPU, without any "
                "sharding. Use `--accelerate_config cpu`, or make a GPU visible."
            )
        if kind == "FSDP" and self.fsdp_version != 2:
            raise CommandError(
                f"{asks} asks for version 1 of FSDP, which cannot hold frozen and trained parameters in one unit. Set "
                "`fsdp_version: 2`, or use the packaged `fsdp2`."
            )
        if kind == "DEEPSPEED":
            require_extra("deepspeed", f"{asks} (`fsdp2` shards without DeepSpeed)")
        if kind not in _SEVERAL_GPUS and self.num_processes > 1:
            raise CommandError(
                f"{asks} asks for {self.num_processes} processes with distributed_type {kind}; accelerate would start "
                "one. Use `num_processes: 1`, or a configuration for several GPUs such as `ddp`."
            )
        per_machine = -(-self.num_processes // self.num_machines)
        if kind in _SEVERAL_GPUS and per_machine > num_gpus:
            raise CommandError(
                f"{asks} puts {per_machine} processes on this machine, which has {num_gpus} GPU(s). Use "
                f"`--num_processes {num_gpus * self.num_machines}`."
            )


def read_accelerate_config(path: Path, name: str) -> AccelerateConfig:
    """
    The settings of a file, with whole numbers and switches where accelerate expects them.

    Args:
        path (`Path`): The file.
        name (`str`): What the user called it.

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
    for section in ("fsdp_config", "deepspeed_config"):
        if not isinstance(settings.get(section, {}), dict):
            raise _refusal(settings[section], section, "a mapping", path)
    version = settings.get("fsdp_config", {}).get("fsdp_version", 1)
    if version not in (1, 2):
        raise _refusal(version, "fsdp_version", "1 or 2", path)
    stage = settings.get("deepspeed_config", {}).get("zero_stage", 2)
    if str(stage) not in ("0", "1", "2", "3"):
        raise _refusal(stage, "zero_stage", "0, 1, 2 or 3", path)
    gpu_ids = settings.get("gpu_ids", "all")
    if not isinstance(gpu_ids, str | int | None):
        raise _refusal(gpu_ids, "gpu_ids", "`all`, or numbers with commas between them", path)
    use_cpu = settings.get("use_cpu", False)
    if not isinstance(use_cpu, bool):
        raise _refusal(use_cpu, "use_cpu", "true or false", path)
    kind = settings.get("distributed_type", "NO")
    kind = "NO" if kind is False else kind  # YAML reads an unquoted NO as false
    if kind not in _KINDS:
        raise _refusal(kind, "distributed_type", f"one of {', '.join(_KINDS)}", path)
    return AccelerateConfig(
        name=name,
        distributed_type=kind,
        num_processes=_whole_number(settings, "num_processes", path),
        num_machines=_whole_number(settings, "num_machines", path),
        use_cpu=use_cpu,
        gpu_ids=str(gpu_ids or "all"),
        fsdp_version=int(version),
        zero_stage=int(stage),
        is_plain=settings.keys() <= _PLAIN,
    )


def _whole_number(settings: dict[str, Any], name: str, path: Path) -> int:
    value = settings.get(name, 1)
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


__all__ = ["AccelerateConfig", "read_accelerate_config"]
