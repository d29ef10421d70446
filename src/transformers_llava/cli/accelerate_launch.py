"""Start the processes that train, from a recipe and an accelerate configuration, or refuse and say why."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from dataclasses import fields as dataclass_fields
from pathlib import Path

from transformers_llava.artifacts.children import python_command, with_installed_code_only
from transformers_llava.artifacts.environment_variables import COMMAND_VARIABLE
from transformers_llava.cli.accelerate_settings import AccelerateConfig, read_accelerate_config
from transformers_llava.cli.child_process import own_group, passing_on_signals, send_signal_to
from transformers_llava.cli.errors import CommandError
from transformers_llava.cli.extras import require_extra
from transformers_llava.packaged import file_or_packaged, packaged_name
from transformers_llava.training.recipe.recipe_error import RecipeError
from transformers_llava.training.recipe.recipe_file import apply_flags, mode_of, read_recipe


_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/nvhost-gpu", "/dev/nvgpu")  # CUDA, ROCm, WSL, Jetson

TRAINING_MODULE = "transformers_llava.training.sft"


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


@dataclass(frozen=True)
class TrainingCommand:
    """The words that start a training, and the environment variables that it needs beside those of this process."""

    words: list[str]
    variables: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """A line for a shell."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.variables.items()]
        return " ".join([*variables, shlex.join(self.words)])


def launch_training(
    recipe: Path,
    fields: Sequence[str],
    accelerate_config: str | None = None,
    num_processes: int | None = None,
    machines: Machines | None = None,
) -> int:
    """
    Trains in another process, several through `accelerate launch`, and waits for the end. SIGTERM and SIGUSR1 are
    passed on: the training writes a checkpoint and ends with status 0.

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
    print(f"$ {command}", flush=True)
    # TRL reports each run to its makers by default; a training run here tells nobody unless asked to.
    # OpenMP threads that wait keep their core busy by default, which costs much where others want it.
    defaults = {"HF_HUB_DISABLE_TELEMETRY": "1", "GOMP_SPINCOUNT": "20000"}
    env = with_installed_code_only({**defaults, **os.environ, **command.variables})
    env[COMMAND_VARIABLE] = _typed(recipe, fields, accelerate_config)
    process = subprocess.Popen(command.words, env=env, **own_group())
    with passing_on_signals(process):
        while True:
            try:
                status = process.wait()
                return status if status >= 0 else 128 - status  # ended by a signal, as a shell has it
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
) -> TrainingCommand:
    """The command that trains, checked against the machine; prints in one line what it amounts to."""
    require_extra("train", "`llava train`")
    num_gpus = _num_gpus() if accelerate_config != "cpu" else 0
    num_machines = 1 if machines is None else machines.num_machines
    if accelerate_config is None:
        accelerate_config = default_accelerate_config(recipe, num_gpus * num_machines, fields)
        if num_gpus * num_machines > 1 and num_processes is None:
            num_processes = num_gpus * num_machines
    path = file_or_packaged("accelerate_config", accelerate_config)
    settings = read_accelerate_config(path, accelerate_config)
    if num_processes is not None:
        settings = replace(settings, num_processes=num_processes)
    if machines is not None:
        settings = replace(settings, num_machines=num_machines)
    settings.check(num_gpus)
    print(settings.describe(), flush=True)
    if settings.is_plain and settings.distributed_type == "NO" and machines is None:
        words = [*python_command(TRAINING_MODULE), "--config", str(recipe), *fields]
        return TrainingCommand(words, _variables_of_one_process(settings))
    options = ["--config_file", str(path), "--num_cpu_threads_per_process", str(_threads(settings))]
    if num_processes is not None:
        options += ["--num_processes", str(num_processes)]
    if machines is not None:
        options += machines.options()
    if settings.distributed_type == "NO" and not settings.use_cpu:
        options += ["--gpu_ids", _one_gpu(settings)]
    if settings.distributed_type == "NO":
        options.append("--quiet")  # the training's own message, without accelerate's traceback on top
    launcher = [*python_command("accelerate.commands.launch"), *options]
    return TrainingCommand([*launcher, "-m", TRAINING_MODULE, "--config", str(recipe), *fields])


def _variables_of_one_process(settings: AccelerateConfig) -> dict[str, str]:
    """What `accelerate launch` would set for one process, after importing torch and all of accelerate."""
    variables = {"ACCELERATE_USE_CPU": str(settings.use_cpu), "OMP_NUM_THREADS": str(_threads(settings))}
    # Precision is the recipe's: what the shell says of it would be used, and not recorded.
    variables |= {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO"}
    if settings.use_cpu:
        return {**variables, "KMP_AFFINITY": "granularity=fine,compact,1,0", "KMP_BLOCKTIME": "1"}
    return {**variables, "CUDA_VISIBLE_DEVICES": _one_gpu(settings)}


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


def _one_gpu(settings: AccelerateConfig) -> str:
    """
    The GPU of a single process, as accelerate takes it.

    Left at `all`, Trainer would count every GPU of the machine, multiply the batch by them, and use nn.DataParallel.
    What accelerate is given replaces CUDA_VISIBLE_DEVICES, so the first of those that are visible is named as it is
    named there.
    """
    given = settings.gpu_ids
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    position = int(given) if given.isdecimal() else 0
    if visible:
        return visible[position] if position < len(visible) else visible[0]
    return given if given != "all" else "0"


def backend_of(name_or_file: str) -> str:
    """
    The packaged configuration that an accelerate configuration amounts to, for plans.

    Raises:
        `CommandError`: it is neither packaged nor a file, or cannot be read.
    """
    return _read(name_or_file).backend


def _read(name_or_file: str) -> AccelerateConfig:
    return read_accelerate_config(file_or_packaged("accelerate_config", name_or_file), name_or_file)


def _num_gpus() -> int:
    """Of this machine; a Linux without the device files of a driver has none, and torch need not be imported."""
    if sys.platform == "linux" and not any(Path(file).exists() for file in _DRIVERS):
        return 0
    import torch

    return torch.cuda.device_count()


def _threads(settings: AccelerateConfig) -> int:
    """Said outright, because accelerate counts physical cores, which containers often cannot tell."""
    if "OMP_NUM_THREADS" in os.environ:
        return int(os.environ["OMP_NUM_THREADS"])
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, available // settings.num_processes)


__all__ = [
    "Machines",
    "TrainingCommand",
    "TRAINING_MODULE",
    "backend_of",
    "default_accelerate_config",
    "launch_training",
    "training_command",
]
