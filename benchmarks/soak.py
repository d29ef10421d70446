"""Kill a training at random moments, resume it, and compare its bits with the same training left alone.

    python -m benchmarks.soak --json benchmarks/results/soak.json

One process runs three epochs with a checkpoint at every step; SIGKILL hits it at random moments, between steps and in
the middle of writing checkpoints alike, and `--resume` continues. Then two processes with FSDP2, on gloo, are killed
together. The weights are compared by their SHA-256. Exit status 1 if a run ends with other bits.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import psutil

from transformers_llava.artifacts.run_record.record_file import read_run_record
from transformers_llava.training.environment import package_versions


ROOT = Path(__file__).resolve().parent.parent


class Running(Protocol):
    """What is asked of a process that was started, by `subprocess` or otherwise."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


def start_process(command: list[str], env: dict[str, str], log: Path) -> Running:
    """A process of its own, whose output goes to the end of `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(command, env={**os.environ, **env}, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)


Start = Callable[[list[str], dict[str, str], Path], Running]


def train(
    command: list[str], env: dict[str, str], log: Path, kill_after: float | None, start: Start = start_process
) -> bool:
    """
    Starts a training and kills it, with all its processes, so many seconds after its first step.

    Returns:
        `bool`: whether it came to its end before that.
    """
    before = log.stat().st_size if log.exists() else 0
    process = start(command, env, log)
    try:
        while process.poll() is None and (not log.exists() or b"'loss'" not in log.read_bytes()[before:]):
            time.sleep(0.02)
        if kill_after is not None:
            try:
                process.wait(kill_after)
            except subprocess.TimeoutExpired:
                _kill(process)
                return False
        status = process.wait()
        if status != 0:
            raise RuntimeError(f"the training ended with status {status}:\n{log.read_text()[-4000:]}")
        return True
    finally:
        _kill(process)


def _kill(process: Running) -> None:
    """SIGKILL to the process and to all that it has started, as when the machine is gone."""
    if process.poll() is not None:
        return
    try:
        whole = psutil.Process(process.pid)
        family = [whole, *whole.children(recursive=True)]
    except psutil.NoSuchProcess:  # it has come to its end since it was asked
        process.wait()
        return
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family, timeout=20)
    process.wait()


def soak(
    command: list[str],
    output_dir: Path,
    log: Path,
    *,
    num_kills: int,
    seed: int,
    span: float,
    env: dict[str, str],
    start: Start = start_process,
) -> dict[str, Any]:
    """
    Kills `num_kills` times within `span` seconds after the first step, and resumes each time.

    A run that ends before all kills are done is started anew from nothing: every kill hits a training at work.
    """
    chance = random.Random(seed)
    kills: list[dict[str, Any]] = []
    digests: list[str] = []
    while len(kills) < num_kills or not digests:
        kill_after = chance.uniform(0.0, span) if len(kills) < num_kills else None
        if train(command, env, log, kill_after, start):
            digests.append(str(read_run_record(output_dir).own.weights_sha256))
            if len(kills) < num_kills:
                _empty(output_dir)
            continue
        steps = [int(folder.name.rpartition("-")[2]) for folder in output_dir.glob("checkpoint-*")]
        kills.append(
            {
                "seconds_after_first_step": round(kill_after or 0.0, 3),
                "last_checkpoint": max(steps, default=0),
                "was_writing": (output_dir / "unfinished").exists(),
            }
        )
    return {"kills": kills, "weights_sha256": sorted(set(digests)), "num_finished": len(digests)}


def _empty(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()


def write_recipe(folder: Path) -> Path:
    """Tiny parts, 24 records, three epochs of twelve steps."""
    sys.path.insert(0, str(ROOT / "tests"))
    import torch
    import yaml
    from transformers import CLIPVisionModel, LlamaForCausalLM

    import tiny

    config = tiny.make_config()
    torch.manual_seed(0)
    LlamaForCausalLM(config.text_config).save_pretrained(folder / "language_model")
    tiny.make_tokenizer().save_pretrained(folder / "language_model")
    CLIPVisionModel(config.vision_config).save_pretrained(folder / "vision_tower")
    size = {"crop_size": {"height": 28, "width": 28}, "size": {"shortest_edge": 28}, "do_center_crop": True}
    (folder / "vision_tower" / "preprocessor_config.json").write_text(json.dumps(size))
    tiny.make_image().save(folder / "x.png")
    records = [
        {
            "id": str(number),
            **({"image": "x.png"} if number % 4 else {}),
            "conversations": [
                {"from": "human", "value": ("<image>\n" if number % 4 else "") + f"What is {number}?"},
                {"from": "gpt", "value": "red blue " * (1 + number % 5)},
            ],
        }
        for number in range(24)
    ]
    (folder / "train.json").write_text(json.dumps(records))
    recipe = {
        "language_model_name_or_path": str(folder / "language_model"),
        "vision_tower_name_or_path": str(folder / "vision_tower"),
        "train_data": [{"name": "toys", "path": str(folder / "train.json")}],
        "chat_template": "vicuna_v1",
        "multi_modal_projector": {"mode": "full"},
        "language_model": {"mode": "full"},
        "packed": True,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "num_train_epochs": 3,
        "learning_rate": 1e-3,
        "save_strategy": "steps",
        "save_steps": 1,
        "save_total_limit": 2,
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def one_process(recipe: Path, output_dir: Path) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a training that resumes from its own latest checkpoint."""
    module = "transformers_llava.training.sft"
    flags = ["--config", str(recipe), "--output_dir", str(output_dir), "--resume"]
    return [sys.executable, "-m", module, *flags], QUIET


def two_processes(recipe: Path, output_dir: Path) -> tuple[list[str], dict[str, str]]:
    """The same on two processes of FSDP2, by the launcher of the tests."""
    sys.path.insert(0, str(ROOT / "tests"))
    from distributed.launching import command_of, environment_of
    from transformers_llava.training.recipe.recipe_file import read_recipe

    cases = [{**read_recipe(recipe), "gradient_accumulation_steps": 1, "resume_from_checkpoint": True}]
    output_dir.mkdir(parents=True, exist_ok=True)
    cases[0]["output_dir"] = str(output_dir)
    folder = output_dir.with_suffix(".cases")
    folder.mkdir(exist_ok=True)
    return command_of(folder, cases, "--nproc_per_node", "2"), {**QUIET, **environment_of("fsdp2")}


QUIET = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--span", type=float, default=4.0, help="seconds after the first step in which kills fall")
    parser.add_argument("--fsdp2_kills", type=int, default=5, help="of two processes with FSDP2")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = write_recipe(folder)
        runs = {
            "one_process": _compare(folder, recipe, one_process, args.kills, args.seed, args.span),
            "two_processes_fsdp2": _compare(folder, recipe, two_processes, args.fsdp2_kills, args.seed, args.span),
        }
    result = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False
        ).stdout.strip(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": package_versions(),
        "identical": all(run["identical"] for run in runs.values()),
        **runs,
    }
    text = json.dumps(result, indent=2) + "\n"
    print(text)
    if args.json is not None:
        args.json.write_text(text)
    return 0 if result["identical"] else 1


def _compare(folder: Path, recipe: Path, launch: Any, num_kills: int, seed: int, span: float) -> dict[str, Any]:
    whole, killed = folder / f"{launch.__name__}_whole", folder / f"{launch.__name__}_killed"
    log = folder / f"{launch.__name__}.log"
    command, env = launch(recipe, whole)
    train(command, env, log, None)
    digest = str(read_run_record(whole).own.weights_sha256)
    command, env = launch(recipe, killed)
    result = soak(command, killed, log, num_kills=num_kills, seed=seed, span=span, env=env)
    return {"identical": result["weights_sha256"] == [digest], "weights_sha256_left_alone": digest, **result}


if __name__ == "__main__":
    sys.exit(main())
