"""Mistyped commands and broken files end in one message that says cause and remedy: exit status 2, no traceback."""

import json
import shutil
from pathlib import Path

import pytest

import tiny
from transformers_llava.cli import main as cli


DRY = ["train", "--config", "tiny/2_instruct", "--dry_run", "--model_name_or_path"]
PRINT = ["train", "--config", "tiny/2_instruct", "--accelerate_config", "cpu", "--print_command"]
CASES: list[tuple[list[str], str]] = [
    (["demo", "--seed", "-1"], "--seed -1 is no seed"),
    (["demo", "--seed", str(2**70)], f"--seed {2**70} is no seed"),
    (["demo", "--output_dir", ""], "names no folder"),
    (["demo", "--output_dir", "file/x"], "'file"),
    (["recipes", "show", "binary"], "'binary' is no text"),
    (["recipes", "cp", "binary", "new.yaml"], "'binary' is no text"),
    (["recipes", "cp", "tiny/1_align", "file/x"], "'file/x' cannot be written"),
    (["recipes", "cp", "tiny/1_align", "a\0b"], "cannot be written"),
    (["recipes", "fields", "zzzz"], "no field has 'zzzz'"),
    ([*DRY, "size"], "'size' is none that a model can be built from"),
    ([*DRY, "number"], "'number' is none that a model can be built from"),
    ([*DRY, "list"], "'list' is none that a model can be built from"),
    ([*DRY, "deep"], "'deep' is none that a model can be built from"),
    ([*DRY, "empty"], "'empty' is none that a model can be built from"),
    ([*DRY, "activation"], "'activation' is none that a model can be built from"),
    ([*DRY, "good", "--accelerate_config", ""], "neither a file nor a packaged accelerate configuration"),
    ([*DRY, "good", "--accelerate_config", "stage.yaml"], "`zero_stage: 'x'`"),
    ([*DRY, "good", "--accelerate_config", "gpus.yaml"], "`gpu_ids: ['a']`"),
    ([*DRY, "good", "--machine_rank", "3"], "--machine_rank 3"),
    ([*DRY, "good", "--main_process_ip", "host"], "--main_process_ip 'host'"),
    ([*PRINT, "stray"], "'stray'"),
    (["train", "--config", "binary", "--accelerate_config", "cpu", "--print_command"], "'binary'"),
    (
        [*PRINT, "--num_machines", "2", "--main_process_ip", "host", "--main_process_port", "99999"],
        "--main_process_port 99999 is no port",
    ),
    ([*PRINT, "--num_machines", "2", "--main_process_ip", ""], "needs --main_process_ip"),
    (["data", "lock", "mine.yaml", "--max_length", "5"], "--max_length 5"),
    (["data", "download-plan", "mine.yaml", "--data_root", "file"], "--data_root 'file' is a file"),
    (["inspect", "model", "negative"], "no model can be built from the config.json of 'negative'"),
    (["inspect", "model", "activation"], "no model can be built from the config.json of 'activation'"),
    (["convert", "good", "file/x"], "exists already"),
    (["convert", "good", "target", "--vision_tower", "nowhere"], "Leave `--vision_tower` out"),
    (["publish", "list", "me/x"], "config.json of 'list' cannot be read"),
    (["publish", "deep", "me/x"], "config.json of 'deep' cannot be read"),
    (["serve", "list"], "'list' cannot be loaded"),
    (["serve", "deep"], "'deep' cannot be loaded"),
    (["serve", "size"], "'size' cannot be loaded (StrictDataclassFieldValidationError"),
    (["serve", "processor"], "'processor' cannot be loaded"),
    (["serve", "me/x"], "HF_HUB_OFFLINE"),
    (["serve", "good", "--device", "cuda:99"], "--device cuda:99 is not here"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mistyped")
    tiny.make_model().save_pretrained(root / "good")
    tiny.make_processor().save_pretrained(root / "good")
    run = Path(__file__).parents[1] / "fixtures" / "demo_run" / "run.json"
    shutil.copy(run, root / "good")
    config = json.loads((root / "good" / "config.json").read_text())
    text = config["text_config"]

    def broken(name: str, content: str, file: str = "config.json") -> None:
        shutil.copytree(root / "good", root / name)
        (root / name / file).write_text(content)

    broken("list", "[]")
    broken("deep", "[" * 100_000)
    broken("empty", "")
    broken("number", json.dumps({**config, "text_config": 5}))
    broken("size", json.dumps({**config, "text_config": {**text, "hidden_size": "x"}}))
    broken("negative", json.dumps({**config, "text_config": {**text, "hidden_size": -4}}))
    broken("activation", json.dumps({**config, "text_config": {**text, "hidden_act": "wat"}}))
    broken("processor", "[]", "processor_config.json")
    (root / "file").write_text("x")
    (root / "binary").write_bytes(b"\x89PNG\xff")
    (root / "mine.yaml").write_text("sources: [{name: a, path: a.json}]")
    (root / "a.json").write_text("[]")
    (root / "stage.yaml").write_text("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: x}")
    (root / "gpus.yaml").write_text("distributed_type: NO\ngpu_ids: [a]")
    return root


@pytest.mark.parametrize(("argv", "said"), CASES, ids=[" ".join(argv)[:60].replace("\0", "0") for argv, _ in CASES])
def test_a_mistake_is_one_message(
    argv: list[str],
    said: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    if argv[0] == "serve":
        pytest.importorskip("fastapi")
    assert cli.main(argv) == 2
    message = capsys.readouterr().err
    assert said in message
    assert f"llava {argv[0]}: " in message
    assert "Nobody foresaw this" not in message
    assert "Traceback" not in message
