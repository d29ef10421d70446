"""A publication trained again from nothing but itself: identical bits, and a reason by name where they are not."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tests.hub.reproduction.hostile import change_run, make_consistent
from tests.hub.two_stages import shared_two_stages

from transformers_llava.artifacts.run_record.record_file import read_checked_record
from transformers_llava.cli.main import main
from transformers_llava.hub.publication.stage import stage_publication
from transformers_llava.hub.reproduction import reproduce as reproducing
from transformers_llava.hub.reproduction.reproduce import reproduce
from transformers_llava.hub.reproduction.work_folder import ReproductionError
from transformers_llava.hub.verification.checks.data_and_bases import check_parts
from transformers_llava.hub.verification.checks.retrained import check_retrained


pytestmark = pytest.mark.slow  # six trainings in processes of their own


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_two_stages(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def publication(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stages, with data, base models and a state to replay from."""
    folder = tmp_path_factory.mktemp("hub") / "publication"
    stage_publication(
        checkpoint,
        "me/tiny",
        folder,
        self_contained=True,
        allow_incomplete=True,
        replay_from=checkpoint / "checkpoint-2",
    )
    return folder


def level(folder: Path, retrained: Path) -> dict[str, tuple[str, str]]:
    found = check_retrained(folder, read_checked_record(folder), retrained, "builtin")
    return {(level, name): (status, text) for level, name, status, text in found}


def test_both_stages_train_again_to_the_same_bits(publication: Path, tmp_path: Path) -> None:
    retrained = reproduce(publication, tmp_path / "again").checkpoint
    assert level(publication, retrained) == {
        ("L3", "retrained weights"): ("ok", "every tensor is identical, bit for bit")
    }


def test_the_end_of_the_run_replays_to_the_same_bits_from_its_checkpoint(publication: Path, tmp_path: Path) -> None:
    retrained = reproduce(publication, tmp_path / "again", replay=True).checkpoint
    assert not (tmp_path / "again/recipe/output/1_align.log").exists()
    assert level(publication, retrained)["L3", "retrained weights"][0] == "ok"


def test_another_seed_is_told_by_name_and_is_out_of_tolerance(checkpoint: Path, tmp_path: Path) -> None:
    whole, changed = tmp_path / "whole", tmp_path / "changed"
    stage_publication(checkpoint.parent / "align", "me/tiny", whole, self_contained=True, allow_incomplete=True)
    shutil.copytree(whole, changed)
    change_run(changed, lambda run: run["configuration"].update(seed=7))
    with pytest.raises(ReproductionError, match=r"does not verify.*seed: run.json says 7, the file says 42"):
        reproduce(changed, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    make_consistent(changed)
    found = level(whole, reproduce(changed, tmp_path / "again").checkpoint)
    assert found["L3", "retrained weights"][0] == found["L4", "retrained weights"][0] == "failed"
    assert "1_align: seed was 42 and is 7" in found["L4", "retrained weights"][1]


def test_the_published_script_is_what_reproduce_runs(publication: Path, tmp_path: Path) -> None:
    """A command that was typed over several lines stands in it as a comment, every line of it."""
    folder = tmp_path / "recipe"
    shutil.copytree(publication / "recipe", folder)
    (folder / "argparse.py").write_text("raise SystemExit('imported from the folder')")  # nothing imports from here
    (tmp_path / "bin").mkdir()
    launcher = f'#!/bin/sh\nexec "{sys.executable}" -P -m transformers_llava.cli.main "$@"\n'
    (tmp_path / "bin/llava").write_text(launcher)
    (tmp_path / "bin/llava").chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", str(folder / "commands.sh")], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert level(publication, folder / "output/2_instruct") == {
        ("L3", "retrained weights"): ("ok", "every tensor is identical, bit for bit")
    }
    assert not list(tmp_path.rglob("evil"))
    script = (folder / "commands.sh").read_text()
    assert "# then: llava train --config instruct.yaml" in script
    assert all(line.startswith(("#", "set ", "cd ", "OMP_NUM_THREADS=1 llava ")) for line in script.splitlines())


def test_what_is_not_there_is_named_before_anything_runs(publication: Path, tmp_path: Path) -> None:
    folder = tmp_path / "thin"
    shutil.copytree(publication, folder, ignore=shutil.ignore_patterns("data", "bases", "checkpoint-2"))
    make_consistent(folder)
    with pytest.raises(
        ReproductionError, match=r"the data of 'toys' \(data/toys/train.json; --data_root\), the language_m"
    ):
        reproduce(folder, tmp_path / "a")
    whole = tmp_path / "whole"
    shutil.copytree(publication, whole, ignore=shutil.ignore_patterns("checkpoint-2"))
    make_consistent(whole)
    with pytest.raises(ReproductionError, match="holds no checkpoint of the run"):
        reproduce(whole, tmp_path / "b", replay=True)
    with pytest.raises(ReproductionError, match=r"--base teacher=\.\.\. names no role"):
        reproduce(whole, tmp_path / "b", bases={"teacher": str(tmp_path)})
    assert not (tmp_path / "b").exists()
    with pytest.raises(ReproductionError, match="is not empty"):
        reproduce(folder, folder)


def test_a_changed_record_and_a_swapped_base_model_are_told_apart(publication: Path, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(publication, folder)
    assert [found for found in check_parts(folder, read_checked_record(folder), None, {}) if found[1] != "ok"] == []
    records = json.loads((folder / "recipe/data/toys/train.json").read_text())
    records[3]["conversations"][1]["value"] += "green"
    (folder / "recipe/data/toys/train.json").write_text(json.dumps(records))
    failed = [found for found in check_parts(folder, read_checked_record(folder), None, {}) if found[1] == "failed"]
    assert [name for name, _, _ in failed] == ["data of 1_align", "data of 2_instruct"]
    assert "source 'toys': its messages and image bytes are not what they were" in failed[0][2]
    shutil.copytree(publication / "recipe/data", folder / "recipe/data", dirs_exist_ok=True)
    tower = folder / "recipe/bases/vision_tower"
    shutil.copyfile(folder / "recipe/bases/language_model/model.safetensors", tower / "model.safetensors")
    failed = [found for found in check_parts(folder, read_checked_record(folder), None, {}) if found[1] == "failed"]
    assert [name for name, _, _ in failed] == ["vision_tower of 1_align"]
    assert "these are not the weights of vision_tower" in failed[0][2]


def test_what_is_no_publication_is_told_in_one_sentence(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", str(checkpoint), str(tmp_path / "a")]) == 2
    assert "has no recipe/: it is a checkpoint, and no publication of one. `llava publish" in capsys.readouterr().err
    assert main(["reproduce", str(checkpoint.parent / "parts/language_model"), str(tmp_path / "a")]) == 2
    assert "has no run.json" in capsys.readouterr().err


def test_without_a_network_the_message_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert main(["reproduce", "me/x", str(tmp_path / "a")]) == 2
    said = capsys.readouterr().err
    assert "'me/x'" in said
    assert "network" in said


def test_a_folder_of_data_is_read_only_when_told(publication: Path, tmp_path: Path) -> None:
    """`datasets` opens whatever the files of such a folder name, in the publication or not."""
    folder = tmp_path / "with_folder"
    shutil.copytree(publication, folder)
    change_run(folder, lambda run: run["previous"][0]["mixture"]["sources"][0].__setitem__("path", "toys"))
    make_consistent(folder)
    assert (folder / "recipe/data/toys").is_dir()
    with pytest.raises(ReproductionError, match=r"'toys' of stage 1_align is a folder.*--allow_dataset_folders"):
        reproduce(folder, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_leave_to_fetch_data_is_none_to_fetch_code_or_to_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of the Hub are code; the user's own token is needed for data, and stays away without that flag."""
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    monkeypatch.setenv("USE_HUB_KERNELS", "1")
    monkeypatch.setenv("WANDB_MODE", "online")
    for is_online in (False, True):
        env = reproducing._environment({}, is_online=is_online)
        assert (env["USE_HUB_KERNELS"], env["WANDB_MODE"], env["HF_HUB_DISABLE_TELEMETRY"]) == ("0", "disabled", "1")
        assert ("HF_TOKEN" in env) is is_online
    assert reproducing._environment({}, is_online=False)["HF_HUB_OFFLINE"] == "1"


def test_base_models_with_an_address_are_fetched_only_when_told(publication: Path, tmp_path: Path) -> None:
    """With a folder of one's own nothing is fetched, and nobody is asked."""
    folder = tmp_path / "pinned"
    shutil.copytree(publication, folder)
    digest = json.loads((folder / "run.json").read_text())["previous"][0]["base_models"][0]["digest"]
    base = {"role": "language_model", "name": "me/x", "origin": "hub", "revision": "0" * 40, "digest": digest}
    change_run(folder, lambda run: run["previous"][0]["base_models"].__setitem__(0, base))
    make_consistent(folder)
    with pytest.raises(ReproductionError, match=r"not in the cache.*Add --allow_base_download"):
        reproduce(folder, tmp_path / "a")
    said: list[str] = []
    with pytest.raises(ReproductionError, match="could not be fetched from the Hub"):
        reproduce(folder, tmp_path / "a", allow_base_download=True, say=said.append)
    assert any(f"language_model me/x at {'0' * 40}: fetched from the Hub" in line for line in said)
    assert not (tmp_path / "a").exists()
    own = publication / "recipe/bases/language_model"
    with pytest.raises(ReproductionError, match="stage 1_align ended with status"):
        _stop_at_the_first_stage(folder, tmp_path / "b", own)
    recipe = (tmp_path / "b/recipe/1_align.yaml").read_text()
    assert "language_model_name_or_path: bases/language_model" in recipe
    assert load_file(tmp_path / "b/recipe/bases/language_model/model.safetensors")


def _stop_at_the_first_stage(folder: Path, output: Path, own: Path) -> None:
    """Everything but the training itself: with a Python that ends at once."""
    executable = sys.executable
    sys.executable = shutil.which("false") or "false"
    try:
        reproduce(folder, output, bases={"language_model": str(own)})
    finally:
        sys.executable = executable
