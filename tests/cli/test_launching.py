"""What `llava train` launches, and what it refuses to."""

import sys
from pathlib import Path
from typing import Any

import pytest

from transformers_llava.cli import launching
from transformers_llava.cli import main as cli
from transformers_llava.cli.errors import CommandError
from transformers_llava.cli.launching import TRAINING_MODULE, check_accelerate_config, describe, training_command


def test_the_command_is_accelerate_launch_of_the_training_module(capsys: pytest.CaptureFixture) -> None:
    command = training_command(Path("recipe.yaml"), ["--learning_rate", "1e-3"], "cpu")
    assert command[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    assert command[-6:] == ["-m", TRAINING_MODULE, "--config", "recipe.yaml", "--learning_rate", "1e-3"]
    assert "--quiet" in command
    assert capsys.readouterr().out == "cpu: 1 process on 1 CPU\n"


def test_fields_reach_the_command_in_their_order(capsys: pytest.CaptureFixture) -> None:
    flags = ["--vision_feature_layer", "-2", "--train_data", "[{name: a, path: b}]", "--strict", "--stage=align"]
    assert (
        cli.main(["train", "--config", "tiny/1_align", "--accelerate_config", "cpu", "--print_command", *flags]) == 0
    )
    end = "--vision_feature_layer -2 --train_data '[{name: a, path: b}]' --strict --stage=align"
    assert capsys.readouterr().out.splitlines()[-1].endswith(end)


@pytest.mark.parametrize(
    ("settings", "num_gpus", "message"),
    [
        ({"distributed_type": "FSDP", "use_cpu": True}, 0, "accelerate would ignore FSDP and train unsharded"),
        ({"distributed_type": "DEEPSPEED", "num_processes": 8}, 0, "needs a GPU and none is visible"),
        ({"distributed_type": "NO"}, 0, "needs a GPU and none is visible"),
        ({"distributed_type": "NO", "use_cpu": True, "num_processes": 2}, 0, "accelerate would start one"),
        ({"distributed_type": "NO", "num_processes": 4}, 4, "accelerate would start one"),
        ({"distributed_type": "MULTI_GPU", "num_processes": 8}, 4, "Use `--num_processes 4`"),
        ({"distributed_type": "MULTI_GPU", "num_processes": 32, "num_machines": 2}, 8, "Use `--num_processes 16`"),
        ({"distributed_type": "FSDP", "num_processes": 8, "fsdp_config": {"fsdp_version": 1}}, 8, "version 1 of FSDP"),
    ],
)
def test_what_accelerate_would_quietly_not_do_is_refused(
    settings: dict[str, Any], num_gpus: int, message: str
) -> None:
    with pytest.raises(CommandError, match=message):
        check_accelerate_config(settings, num_gpus=num_gpus, name="mine")


def test_what_it_would_do_is_allowed_and_described() -> None:
    ddp = {"distributed_type": "MULTI_GPU", "num_processes": 16, "num_machines": 2}
    check_accelerate_config(ddp, num_gpus=8, name="ddp")
    assert describe(ddp, "ddp") == "ddp: MULTI_GPU, 16 processes on 16 GPUs of 2 machine(s)"
    check_accelerate_config({"distributed_type": "NO"}, num_gpus=1, name="single_gpu")


@pytest.mark.parametrize(("num_gpus", "name"), [(0, "cpu"), (1, "single_gpu"), (4, "ddp")])
def test_the_default_fits_the_machine(
    num_gpus: int, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(launching, "_num_gpus", lambda: num_gpus)
    command = training_command(Path("recipe.yaml"), [])
    assert f"{name}.yaml" in command[4]
    assert ("--num_processes" in command) == (num_gpus == 4)


def test_a_mistake_in_a_recipe_reaches_the_person_without_a_traceback(
    capfd: pytest.CaptureFixture, tmp_path: Path
) -> None:
    status = cli.main(["train", "--config", "tiny/1_align", "--accelerate_config", "cpu", "--learning_rat", "1"])
    captured = capfd.readouterr()
    assert status != 0
    assert "RecipeError: `learning_rat` is no field of a recipe" in captured.err
    assert "Traceback" not in captured.err
    assert "cpu: 1 process on 1 CPU" in captured.out


@pytest.mark.parametrize(("stage", "name"), [("1_align", "ddp"), ("2_instruct", "fsdp2")])
def test_several_gpus_shard_what_is_trained_in_full(
    stage: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(launching, "_num_gpus", lambda: 8)
    assert cli.main(["train", "--config", f"tiny/{stage}", "--print_command"]) == 0
    output = capsys.readouterr().out
    assert f"{name}.yaml --num_cpu_threads_per_process" in output
    assert "--num_processes 8" in output


def test_several_machines_are_handed_to_accelerate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(launching, "_num_gpus", lambda: 8)
    flags = ["--num_machines", "2", "--machine_rank", "1", "--main_process_ip", "10.0.0.1", "--print_command"]
    assert cli.main(["train", "--config", "tiny/2_instruct", *flags]) == 0
    output = capsys.readouterr().out
    assert "fsdp2: FSDP, 16 processes on 16 GPUs of 2 machine(s)" in output
    assert (
        "--num_processes 16 --num_machines=2 --machine_rank=1 --main_process_ip=10.0.0.1 --main_process_port=29500"
        in output
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num_machines", "2", "--machine_rank", "2", "--main_process_ip", "a"], "is not one of 2 machines"),
        (["--num_machines", "2"], "needs --main_process_ip"),
    ],
)
def test_machines_that_can_not_be_are_refused(flags: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["train", "--config", "tiny/2_instruct", "--print_command", *flags]) != 0
    assert message in capsys.readouterr().err
