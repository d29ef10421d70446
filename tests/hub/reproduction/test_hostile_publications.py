"""A publication is data: of forty hostile ones none runs code, writes outside its output, or reaches the network."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tests.hub.reproduction.hostile import NEUTRAL, REFUSED, make_consistent, neutral, payload
from tests.hub.reproduction.monitored import Observed, environment, read_events, run_monitored
from tests.hub.two_stages import shared_two_stages

from transformers_llava.hub.publication.stage import stage_publication


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    for name in ("repositories", "victim", "out"):
        (folder / name).mkdir()
    return folder


@pytest.fixture(scope="module")
def observed(scratch: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Observed]:
    """Every repository through `llava reproduce`, in one monitored process; the last one is trained."""
    checkpoint = shared_two_stages(tmp_path_factory.getbasetemp())
    whole, first = scratch / "whole", scratch / "first"
    stage_publication(
        checkpoint,
        "me/tiny",
        whole,
        self_contained=True,
        allow_incomplete=True,
        replay_from=checkpoint / "checkpoint-2",
    )
    stage_publication(checkpoint.parent / "align", "me/tiny", first, self_contained=True, allow_incomplete=True)
    cases = []
    for name, (trick, _, recompute, arguments) in REFUSED.items():
        folder = scratch / "repositories" / name
        shutil.copytree(whole, folder)
        trick(folder, scratch / "victim")
        if "link" not in name and name != "pipe":  # of these the refusal comes before any file is read
            make_consistent(folder, recompute=recompute)
        cases.append((name, ["reproduce", str(folder), str(scratch / "out" / name), *arguments]))
    folder = scratch / "repositories/neutral"
    shutil.copytree(first, folder)
    neutral(folder, scratch / "victim")
    make_consistent(folder)
    cases.append(("neutral", ["reproduce", str(folder), str(scratch / "out/neutral")]))
    return run_monitored(cases, scratch / "home", [scratch / "repositories", scratch / "out"])


def test_the_monitor_sees_what_it_is_to_see(scratch: Path, tmp_path: Path) -> None:
    """The trick of the first fault, as training was started once: from the folder, without -P."""
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository/argparse.py").write_text(payload(tmp_path))
    subprocess.run(
        [sys.executable, "-m", "json.tool", "-h"],
        cwd=tmp_path / "repository",
        env=environment(tmp_path / "scratch", [tmp_path / "repository"]),
        capture_output=True,
        timeout=300,
        check=False,
    )
    events = [(kind, detail) for _, kind, detail in read_events(tmp_path / "scratch")]
    assert ("code", str(tmp_path / "repository/argparse.py")) in events
    assert ("write", str(tmp_path / "ran")) in events
    assert any(kind == "network" and "9]" in json.dumps(detail) for kind, detail in events)
    assert any(kind == "start" and detail[0] == "os.system" for kind, detail in events)


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_publication_is_refused_before_anything_starts(
    observed: dict[str, Observed], scratch: Path, name: str
) -> None:
    seen = observed[name]
    assert seen.status == 2, seen.said
    assert REFUSED[name][1] in seen.said
    assert "Traceback" not in seen.said
    assert [seen.of(kind) for kind in ("code", "start", "network", "pickle")] == [[], [], [], []]
    assert seen.written_outside(scratch / "home") == []  # not even the output was made
    assert not (scratch / "out" / name).exists()


def test_what_can_be_left_out_is_left_out_and_said(observed: dict[str, Observed], scratch: Path) -> None:
    seen = observed["neutral"]
    assert seen.status == 0, seen.said
    for field in NEUTRAL.keys() - {"output_dir"}:
        assert f"not obeyed: {field} " in seen.said, field
    assert "not obeyed: accelerate_config 'evil.yaml'" in seen.said
    assert "left behind, as nothing of it is read: bases/language_model/adapter_config.json (1 files)" in seen.said
    assert [seen.of(kind) for kind in ("code", "network", "pickle")] == [[], [], []]
    assert seen.written_outside(scratch / "home", scratch / "out/neutral", Path("/dev"), Path("/proc")) == []
    for event, (program, words) in seen.of("start"):
        assert event == "subprocess.Popen"
        assert program != sys.executable or words[1] == "-P" or words[1:3] == ["-m", "transformers_llava.training.sft"]
    work = scratch / "out/neutral/recipe"
    assert {path.name for path in work.iterdir()} == {
        *("1_align.yaml", "1_align.mixture.yaml", "1_align.mixture.lock.json", "commands.sh", "environment.txt"),
        *("data", "bases", "output"),
    }


def test_nothing_happened_outside(observed: dict[str, Observed], scratch: Path) -> None:
    assert list((scratch / "victim").iterdir()) == []
    assert [path for path in (scratch / "home/home").iterdir() if path.name not in (".cache", ".triton")] == []


def test_the_neutral_one_gives_the_published_weights(observed: dict[str, Observed], scratch: Path) -> None:
    assert "every tensor is identical, bit for bit" in observed["neutral"].said
    assert load_file(scratch / "out/neutral/recipe/output/1_align/model.safetensors")
