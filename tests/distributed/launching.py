"""Start two processes on gloo that train what a packaged accelerate configuration says."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from forked import Forked, wait_for_all
from transformers_llava.packaged import packaged_file


WORKER = Path(__file__).parent / "worker.py"


def environment_of(name: str) -> dict[str, str]:
    """The variables that `accelerate launch` sets for a packaged configuration, read from accelerate itself."""
    settings = yaml.safe_load(packaged_file("accelerate_config", name).read_text())
    if settings["distributed_type"] == "MULTI_GPU":
        return {"ACCELERATE_USE_CPU": "true"}
    from accelerate.commands.launch import launch_command_parser
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    args = launch_command_parser().parse_args(["--num_processes", "2", "--num_machines", "1", "none.py"])
    for section in (settings, settings.get("fsdp_config", {}), settings.get("deepspeed_config", {})):
        for key, value in section.items():
            setattr(args, key, value)
    args.num_processes = 2
    args.mixed_precision = args.dynamo_backend = "no"
    args.use_fsdp, args.use_deepspeed = (settings["distributed_type"] == kind for kind in ("FSDP", "DEEPSPEED"))
    if args.use_fsdp:
        return {"ACCELERATE_USE_CPU": "true", **_strings(prepare_multi_gpu_env(args))}
    args.deepspeed_multinode_launcher = "standard"
    args.deepspeed_fields_from_accelerate_config = ",".join(settings["deepspeed_config"])
    return {"DS_ACCELERATOR": "cpu", **_strings(prepare_deepspeed_cmd_env(args)[1])}


def _strings(env: dict[str, Any]) -> dict[str, str]:
    """Only what accelerate adds."""
    return {key: str(value) for key, value in env.items() if value != os.environ.get(key) and str(value) != "None"}


def run_processes(folder: Path, cases: list[dict[str, Any]], name: str) -> None:
    """Two processes of one machine, with the variables that `torchrun` would give them."""
    file = _write(folder, cases)
    env = {**_QUIET, **environment_of(name), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    env |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "distributed.worker", str(file)]
    logs = [folder / f"log_{rank}.txt" for rank in range(2)]
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    processes = [Forked(command, {**env, **rank}, log) for rank, log in zip(ranks, logs)]
    try:
        wait_for_all(processes, timeout=600)
    finally:
        for process in processes:
            process.kill()
    said = "".join(f"{log.name}:\n{log.read_text()[-6000:]}\n" for log in logs)
    assert [process.poll() for process in processes] == [0, 0], said


def run_machines(folder: Path, cases: list[dict[str, Any]]) -> None:
    """Two machines of one process each, which find each other on loopback."""
    options = ["--nnodes", "2", "--nproc_per_node", "1", "--master_addr", "127.0.0.1"]
    command = command_of(folder, cases, *options)
    env = environment_of("ddp")
    _finish([_start([*command[:3], "--node_rank", str(rank), *command[3:]], env) for rank in range(2)])


def command_of(folder: Path, cases: list[dict[str, Any]], *options: str) -> list[str]:
    """`torchrun` of the worker, with its cases written into `folder`."""
    file = _write(folder, cases)
    launcher = [sys.executable, "-m", "torch.distributed.run", *options, "--master_port", str(free_port())]
    return [*launcher, str(WORKER), str(file)]


def _write(folder: Path, cases: list[dict[str, Any]]) -> Path:
    file = folder / "cases.json"
    file.write_text(json.dumps(cases))
    return file


def _start(command: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env={**os.environ, **_QUIET, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _finish(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        try:
            output, _ = process.communicate(timeout=600)
        finally:
            process.kill()
        assert process.returncode == 0, output[-8000:]


_QUIET = {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "20000", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
