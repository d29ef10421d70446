"""A recipe and an accelerate configuration to the processes that train, or to a refusal that says why not."""

import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

from transformers_llava.artifacts.children import python_command, with_installed_code_only
from transformers_llava.artifacts.environment_variables import COMMAND_VARIABLE
from transformers_llava.cli.accelerate_settings import read_accelerate_config
from transformers_llava.cli.child_process import own_group, passing_on_signals, send_signal_to
from transformers_llava.cli.errors import CommandError
from transformers_llava.cli.extras import require_extra
from transformers_llava.packaged import file_or_packaged, packaged_name
from transformers_llava.training.recipe.recipe_error import RecipeError
from transformers_llava.training.recipe.recipe_file import apply_flags, mode_of, read_recipe


TRAINING_MODULE = "transformers_llava.training.sft"

_SEVERAL_GPUS = ("MULTI_GPU", "FSDP", "DEEPSPEED", "MEGATRON_LM")


@dataclass(frozen=True)
class Machines:
    """Several machines: how many, which of them this is, and where the first one listens."""

    num_machines: int
    machine_rank: int
    main_process_ip: str
    main_process_port: int = 29500

    def __post_init__(self) -> None:
        if not 0 <= self.machine_rank < self.num_machines:
            raise CommandError(
                f"--machine_rank {self.machine_rank} is not one of {self.num_machines} machines. Count from 0 to "
                f"{self.num_machines - 1}, and start the same command on each with its own number."
            )

    def options(self) -> list[str]:
        """As `accelerate launch` takes them."""
        return [f"--{field.name}={getattr(self, field.name)}" for field in dataclass_fields(self)]


def launch_training(
    recipe: Path,
    fields: Sequence[str],
    accelerate_config: str | None = None,
    num_processes: int | None = None,
    machines: Machines | None = None,
) -> int:
    """
    Trains through `accelerate launch` and waits for the end. SIGTERM and SIGUSR1 are passed on: the training writes a
    checkpoint and ends with status 0.

    Args:
        recipe (`Path`): The recipe's file.
        fields (`Sequence[str]`): Flags that lie over its fields.
        accelerate_config (`str`, *optional*): Name or file; what fits this machine by default.
        num_processes (`int`, *optional*): Instead of the configuration's.
        machines (`Machines`, *optional*): More than this one.

    Returns:
        `int`: Exit status of the training.

    Raises:
        `CommandError`: if accelerate would quietly run something else than the configuration says.
    """
    command = training_command(recipe, fields, accelerate_config, num_processes, machines)
    print("$ " + shlex.join(command), flush=True)
    # TRL reports each run to its makers by default; a training run here tells nobody unless asked to.
    # OpenMP threads that wait keep their core busy by default, which costs much where others want it.
    defaults = {"HF_HUB_DISABLE_TELEMETRY": "1", "GOMP_SPINCOUNT": "20000"}
    env = with_installed_code_only({**defaults, **os.environ})
    env[COMMAND_VARIABLE] = _typed(recipe, fields, accelerate_config)
    process = subprocess.Popen(command, env=env, **own_group())
    with passing_on_signals(process):
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                send_signal_to(process, signal.SIGINT)


def _typed(recipe: Path, fields: Sequence[str], accelerate_config: str | None) -> str:
    """The line that starts this training, for its record; a packaged recipe by its name."""
    chosen = [] if accelerate_config is None else ["--accelerate_config", accelerate_config]
    return shlex.join(["llava", "train", "--config", packaged_name("recipe", recipe), *chosen, *fields])


def training_command(
    recipe: Path,
    fields: Sequence[str],
    accelerate_config: str | None = None,
    num_processes: int | None = None,
    machines: Machines | None = None,
) -> list[str]:
    """The command that trains, checked against the machine; prints in one line what it amounts to."""
    require_extra("train", "`llava train`")
    num_gpus = _num_gpus() if accelerate_config != "cpu" else 0
    num_machines = 1 if machines is None else machines.num_machines
    if accelerate_config is None:
        accelerate_config = default_accelerate_config(recipe, num_gpus * num_machines, fields)
        if num_gpus * num_machines > 1 and num_processes is None:
            num_processes = num_gpus * num_machines
    path = file_or_packaged("accelerate_config", accelerate_config)
    settings = read_accelerate_config(path)
    if num_processes is not None:
        settings["num_processes"] = num_processes
    if machines is not None:
        settings["num_machines"] = num_machines
    check_accelerate_config(settings, num_gpus=num_gpus, name=accelerate_config)
    print(describe(settings, accelerate_config), flush=True)
    options = ["--config_file", str(path), "--num_cpu_threads_per_process", str(_threads(settings))]
    if num_processes is not None:
        options += ["--num_processes", str(num_processes)]
    if machines is not None:
        options += machines.options()
    if settings["distributed_type"] == "NO" and not settings.get("use_cpu"):
        options += ["--gpu_ids", _one_gpu(settings)]
    if settings.get("distributed_type", "NO") == "NO":
        options.append("--quiet")  # the training's own message, without accelerate's traceback on top
    launcher = [*python_command("accelerate.commands.launch"), *options]
    return [*launcher, "-m", TRAINING_MODULE, "--config", str(recipe), *fields]


def default_accelerate_config(recipe: Path, num_gpus: int, fields: Sequence[str] = ()) -> str:
    """
    What fits: `cpu`, `single_gpu`; on several GPUs `fsdp2` where the language model is trained in full, else `ddp`.

    Frozen weights cost each GPU a copy in half precision and no communication; gradients and an optimizer of the whole
    language model do not fit beside them.

    Args:
        recipe (`Path`): The recipe's file.
        num_gpus (`int`): Of all machines.
        fields (`Sequence[str]`, *optional*): Flags that lie over its fields, and count as they do.
    """
    if num_gpus <= 1:
        return "single_gpu" if num_gpus == 1 else "cpu"
    try:
        values = apply_flags(read_recipe(recipe), fields)
    except RecipeError as error:
        raise CommandError(str(error)) from error
    return "fsdp2" if mode_of(values, "language_model") == "full" else "ddp"


def _one_gpu(settings: dict[str, Any]) -> str:
    """
    The GPU of a single process, as accelerate takes it.

    Left at `all`, Trainer would count every GPU of the machine, multiply the batch by them, and use nn.DataParallel.
    What accelerate is given replaces CUDA_VISIBLE_DEVICES, so the first of those that are visible is named as it is
    named there.
    """
    given = str(settings.get("gpu_ids") or "all")
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    position = int(given) if given.isdecimal() else 0
    if visible:
        return visible[position] if position < len(visible) else visible[0]
    return given if given != "all" else "0"


def check_accelerate_config(settings: dict[str, Any], *, num_gpus: int, name: str) -> None:
    """
    Refuses what accelerate would accept and then not do.

    On a machine without a GPU it ignores FSDP and DeepSpeed, and starts one process where several are asked for; all
    without a word.
    """
    kind = str(settings.get("distributed_type", "NO"))
    num_processes = int(settings.get("num_processes", 1))
    num_machines = int(settings.get("num_machines", 1))
    if num_processes < 1 or num_machines < 1:
        raise CommandError(
            f"{num_processes} processes on {num_machines} machines were asked for, and nothing would train. Give "
            "`--num_processes` and `--num_machines` of 1 or more."
        )
    on_cpu = bool(settings.get("use_cpu", False))
    if on_cpu and kind in _SEVERAL_GPUS:
        raise CommandError(
            f"the accelerate configuration {name!r} asks for {kind} and for `use_cpu: true`; accelerate would ignore "
            f"{kind} and train unsharded. Remove one of the two."
        )
    if not on_cpu and num_gpus == 0:
        raise CommandError(
            f"the accelerate configuration {name!r} needs a GPU and none is visible; accelerate would quietly train "
            "on the CPU, without any sharding. Use `--accelerate_config cpu`, or make a GPU visible."
        )
    if kind == "FSDP" and int(settings.get("fsdp_config", {}).get("fsdp_version", 1)) != 2:
        raise CommandError(
            f"the accelerate configuration {name!r} asks for version 1 of FSDP, which cannot hold frozen and trained "
            "parameters in one unit. Set `fsdp_version: 2`, or use the packaged `fsdp2`."
        )
    if kind == "DEEPSPEED":
        require_extra("deepspeed", f"the accelerate configuration {name!r} (`fsdp2` shards without DeepSpeed)")
    if kind not in _SEVERAL_GPUS and num_processes > 1:
        raise CommandError(
            f"the accelerate configuration {name!r} asks for {num_processes} processes with distributed_type {kind}; "
            "accelerate would start one. Use `num_processes: 1`, or a configuration for several GPUs such as `ddp`."
        )
    per_machine = -(-num_processes // num_machines)
    if kind in _SEVERAL_GPUS and per_machine > num_gpus:
        raise CommandError(
            f"the accelerate configuration {name!r} puts {per_machine} processes on this machine, which has "
            f"{num_gpus} GPU(s). Use `--num_processes {num_gpus * num_machines}`."
        )


def backend_of(name_or_file: str) -> str:
    """
    The packaged configuration that an accelerate configuration amounts to, for plans.

    Raises:
        `CommandError`: it is neither packaged nor a file, or cannot be read.
    """
    settings = read_accelerate_config(file_or_packaged("accelerate_config", name_or_file))
    if settings["distributed_type"] == "DEEPSPEED":
        stage = settings.get("deepspeed_config", {}).get("zero_stage", 2)
        return "zero3" if str(stage) == "3" else "zero2"
    if settings["distributed_type"] == "NO":
        return "cpu" if settings.get("use_cpu") else "single_gpu"
    return "fsdp2" if settings["distributed_type"] == "FSDP" else "ddp"


def describe(settings: dict[str, Any], name: str) -> str:
    """One line: what will really run."""
    num_processes, num_machines = int(settings.get("num_processes", 1)), int(settings.get("num_machines", 1))
    kind = str(settings.get("distributed_type", "NO"))
    device = "CPU" if settings.get("use_cpu") else "GPU"
    if kind not in _SEVERAL_GPUS:
        return f"{name}: 1 process on 1 {device}"
    return f"{name}: {kind}, {num_processes} processes on {num_processes} GPUs of {num_machines} machine(s)"


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _threads(settings: dict[str, Any]) -> int:
    """Said outright, because accelerate counts physical cores, which containers often can not tell."""
    if "OMP_NUM_THREADS" in os.environ:
        return int(os.environ["OMP_NUM_THREADS"])
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, available // int(settings.get("num_processes", 1)))


__all__ = [
    "Machines",
    "TRAINING_MODULE",
    "backend_of",
    "check_accelerate_config",
    "default_accelerate_config",
    "describe",
    "launch_training",
    "training_command",
]
