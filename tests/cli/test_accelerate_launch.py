"""What `llava train` launches, and what it refuses to."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from transformers_llava.cli import accelerate_launch as launching
from transformers_llava.cli import main as cli
from transformers_llava.cli.accelerate_launch import (
    TRAINING_MODULE,
    default_accelerate_config,
    training_command,
)
from transformers_llava.cli.accelerate_settings import AccelerateConfig
from transformers_llava.cli.errors import CommandError


def test_one_process_is_the_training_module_itself(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    command = training_command(Path("recipe.yaml"), ["--learning_rate", "1e-3"], "cpu")
    training = [TRAINING_MODULE, "--config", "recipe.yaml", "--learning_rate", "1e-3"]
    assert command.words == [sys.executable, "-P", "-m", *training]
    assert str(command).startswith("ACCELERATE_USE_CPU=True OMP_NUM_THREADS=3 ")
    assert capsys.readouterr().out == "cpu: 1 process on 1 CPU\n"


def test_what_only_accelerate_understands_is_launched_by_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("distributed_type: 'NO'\nuse_cpu: true\nmixed_precision: bf16\n")
    command = training_command(Path("recipe.yaml"), ["--learning_rate", "1e-3"], str(path)).words
    assert command[:4] == [sys.executable, "-P", "-m", "accelerate.commands.launch"]
    assert command[-6:] == ["-m", TRAINING_MODULE, "--config", "recipe.yaml", "--learning_rate", "1e-3"]
    assert "--quiet" in command


def test_one_process_gets_what_accelerate_would_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Asked of accelerate itself."""
    from accelerate.commands.launch import launch_command_parser
    from accelerate.utils.launch import prepare_simple_launcher_cmd_env

    for name in ("ACCELERATE_USE_CPU", "CUDA_VISIBLE_DEVICES", "KMP_AFFINITY", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(launching, "_num_gpus", lambda: 2)
    for name, options in (("cpu", ["--cpu"]), ("single_gpu", ["--gpu_ids", "0"])):
        words = [*options, "--mixed_precision", "no", "--num_cpu_threads_per_process", "3", "-m", TRAINING_MODULE]
        args = launch_command_parser().parse_args(words)
        args.use_cpu, args.num_machines, args.dynamo_backend = args.cpu, 1, "no"
        theirs = prepare_simple_launcher_cmd_env(args)[1]
        ours = training_command(Path("recipe.yaml"), [], name).variables
        assert ours == {variable: theirs[variable] for variable in ours}
        left = {variable for variable in theirs if variable not in os.environ} - ours.keys()
        assert all(variable.startswith("ACCELERATE_DYNAMO_") for variable in left), left  # of a backend that is not on


def test_variables_of_the_shell_do_not_change_the_precision_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """`TrainingArguments` reads them, and the run record would not say it; accelerate's launcher overwrites them."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    variables = training_command(Path("recipe.yaml"), [], "cpu").variables
    assert variables["ACCELERATE_MIXED_PRECISION"] == "no"
    assert variables["ACCELERATE_DYNAMO_BACKEND"] == "NO"


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
        ({"distributed_type": "FSDP", "num_processes": 8, "fsdp_version": 1}, 8, "version 1 of FSDP"),
    ],
)
def test_what_accelerate_would_quietly_not_do_is_refused(
    settings: dict[str, Any], num_gpus: int, message: str
) -> None:
    with pytest.raises(CommandError, match=message):
        AccelerateConfig("mine", **settings).check(num_gpus)


def test_what_it_would_do_is_allowed_and_described() -> None:
    ddp = AccelerateConfig("ddp", "MULTI_GPU", num_processes=16, num_machines=2)
    ddp.check(num_gpus=8)
    assert ddp.describe() == "ddp: MULTI_GPU, 16 processes on 16 GPUs of 2 machine(s)"
    AccelerateConfig("single_gpu").check(num_gpus=1)


@pytest.mark.parametrize(("num_gpus", "name"), [(0, "cpu"), (1, "single_gpu"), (4, "ddp")])
def test_the_default_fits_the_machine(
    num_gpus: int, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(launching, "_num_gpus", lambda: num_gpus)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "recipe.yaml").write_text("language_model: frozen\n")
    command = training_command(tmp_path / "recipe.yaml", [])
    one = {"cpu": ("ACCELERATE_USE_CPU", "True"), "single_gpu": ("CUDA_VISIBLE_DEVICES", "0")}
    assert one[name] in command.variables.items() if name in one else f"{name}.yaml" in command.words[5]
    assert ("--num_processes" in command.words) == (num_gpus == 4)


def test_a_mistake_in_a_recipe_reaches_the_user_without_a_traceback(
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
def test_machines_that_cannot_be_are_refused(flags: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["train", "--config", "tiny/2_instruct", "--print_command", *flags]) != 0
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("language_model", "flags", "name"),
    [
        ("full", [], "fsdp2"),  # the short form
        ("{mode: lora}", ["--language_model.mode", "full"], "fsdp2"),
        ("full", ["--language_model.mode=lora"], "ddp"),
        ("full", ["--language_model", "frozen"], "ddp"),
        ("{mode: full}", [], "fsdp2"),
    ],
)
def test_the_default_backend_is_that_of_the_resolved_recipe(
    language_model: str, flags: list[str], name: str, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"language_model: {language_model}\n")
    assert default_accelerate_config(recipe, 8, flags) == name


@pytest.mark.parametrize(
    ("visible", "flags", "gpu"),
    [
        (None, ["--accelerate_config", "single_gpu"], "0"),
        ("", ["--accelerate_config", "single_gpu"], "0"),
        ("5,6", ["--accelerate_config", "single_gpu"], "5"),
        ("GPU-8f1c,GPU-22aa", ["--accelerate_config", "single_gpu"], "GPU-8f1c"),
        (None, ["--accelerate_config", "FILE"], "0"),  # a file that says nothing of GPUs
    ],
)
def test_one_process_sees_one_gpu(
    visible: str | None,
    flags: list[str],
    gpu: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(launching, "_num_gpus", lambda: 8)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    (tmp_path / "mine.yaml").write_text("distributed_type: NO\n")  # which YAML reads as false
    flags = [str(tmp_path / "mine.yaml") if flag == "FILE" else flag for flag in flags]
    assert cli.main(["train", "--config", "tiny/1_align", "--print_command", *flags]) == 0
    assert f"CUDA_VISIBLE_DEVICES={gpu} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\xff\xfe", "is not YAML"),
        (b"a: [1", "is not YAML"),
        (b"- MULTI_GPU\n", "where a mapping"),
        (b"num_processes: x\n", "`num_processes: 'x'`, where a whole number from 1 on"),
        (b"num_processes: 0\n", "`num_processes: 0`, where a whole number"),
        (b"num_machines: true\n", "`num_machines: True`, where a whole number"),
        (b"distributed_type: FSPD\n", "`distributed_type: 'FSPD'`, where one of NO, MULTI_GPU"),
        (b"distributed_type: FSDP\nfsdp_config: 2\n", "`fsdp_config: 2`, where a mapping"),
        (b"distributed_type: FSDP\nfsdp_config: {fsdp_version: two}\n", "`fsdp_version: 'two'`, where 1 or 2"),
        (b"use_cpu: perhaps\n", "`use_cpu: 'perhaps'`, where true or false"),
    ],
)
def test_an_accelerate_file_that_cannot_be_meant_is_one_message(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "accelerate.yaml"
    path.write_bytes(content)
    for mode in ("--print_command", "--dry_run"):
        flags = ["train", "--config", "tiny/1_align", "--accelerate_config", str(path), mode]
        assert cli.main(flags) == 2
        error = capsys.readouterr().err
        assert "accelerate.yaml" in error
        assert message in error


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--accelerate_config", "fspd2"], "Did you mean 'fsdp2'?"),
        (["--num_processes", "0"], "--num_processes 0 and --num_machines 1 must be 1 or more"),
        (["--num_processes", "-1"], "--num_processes -1"),
        (["--num_machines", "0"], "--num_machines 0 must be 1 or more"),
    ],
)
@pytest.mark.parametrize("mode", ["--print_command", "--dry_run"])
def test_what_nobody_can_have_meant_is_refused(
    flags: list[str], message: str, mode: str, capsys: pytest.CaptureFixture
) -> None:
    assert cli.main(["train", "--config", "tiny/2_instruct", mode, *flags]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--optim", "adamm"], "refused by transformers or TRL: adamm"),
        (["--per_device_train_batch_size", "0"], "`per_device_train_batch_size: 0` is below 1"),
        (["--language_model.lora_rank", "0"], "`lora_rank: 0` is below 1"),
        (["--image_grid_pinpoints", "[wide, high]"], "are no canvases"),
        (["--image_aspect_ratio", "anyres"], "grid_pinpoints"),
    ],
)
def test_a_plan_of_a_mistyped_recipe_is_one_message(
    flags: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert cli.main(["train", "--config", "llava-v1.5/7b/1_align", "--dry_run", *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_recipe_that_is_no_text_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "recipe.yaml").write_bytes(b"\x89PNG\xff\xfe")
    assert cli.main(["train", "--config", str(tmp_path / "recipe.yaml"), "--dry_run"]) == 2
    assert "recipe.yaml" in capsys.readouterr().err
