"""Killed at random moments and resumed, a run ends with the bits of one left alone (`make soak` kills 20 times)."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from benchmarks.soak import QUIET, one_process, soak, train, write_recipe
from forked import Forked
from transformers_llava.artifacts.run_record.record_file import read_run_record


pytestmark = pytest.mark.slow  # with the import that forks share


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("soak"))


def test_three_kills_change_no_bit(recipe: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    train(*one_process(recipe, tmp_path / "whole"), log, None, Forked)
    command, env = one_process(recipe, tmp_path / "killed")
    result = soak(command, tmp_path / "killed", log, num_kills=3, seed=1, span=2.0, env=env, start=Forked)
    assert len(result["kills"]) == 3
    assert result["weights_sha256"] == [read_run_record(tmp_path / "whole").own.weights_sha256]


def test_a_scheduler_tells_the_command_and_the_training_ends_with_a_checkpoint(recipe: Path, tmp_path: Path) -> None:
    flags = ["--accelerate_config", "cpu", "--output_dir", str(tmp_path / "out"), "--num_train_epochs", "300"]
    command = [sys.executable, "-m", "transformers_llava.cli.main", "train", "--config", str(recipe), *flags]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **QUIET}, stdout=log, stderr=subprocess.STDOUT)
    while process.poll() is None and "'loss'" not in (tmp_path / "log").read_text():
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(300) == 0, (tmp_path / "log").read_text()[-3000:]
    assert "stopped by a signal after step" in (tmp_path / "log").read_text()
    checkpoints = list((tmp_path / "out").glob("checkpoint-*"))
    last = max(checkpoints, key=lambda folder: int(folder.name.rpartition("-")[2]))
    assert load_file(last / "trainable.safetensors")
    assert json.loads((last / "trainer_state.json").read_text())["global_step"] < 3600
    assert not (tmp_path / "out" / "model.safetensors").exists()
