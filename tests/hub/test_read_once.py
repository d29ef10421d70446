"""Each command parses a run record once, and passes it on as a value; a plan of a publication writes nothing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fake_hub.loopback import LoopbackHub
from tests.hub.publications import linked_copy, replace, shared_publication, write_manifest_anew
from tests.hub.two_stages import shared_two_stages

from transformers_llava.artifacts.run_record.record_file import read_checked_record
from transformers_llava.cli.main import main
from transformers_llava.hub.publication.stage import stage_publication
from transformers_llava.hub.verification.verify import verify


@pytest.fixture
def times_parsed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], int]:
    """How often the text of a file was parsed as JSON, by whatever name and through whatever function."""
    parsed, loads = [], json.loads

    def counting(text: Any, *args: Any, **kwargs: Any) -> Any:
        parsed.append(text if isinstance(text, str) else bytes(text).decode("utf-8", "replace"))
        return loads(text, *args, **kwargs)

    monkeypatch.setattr(json, "loads", counting)
    return lambda path: parsed.count(path.read_text())


def test_verify_reads_it_once(times_parsed: Callable, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = shared_publication(tmp_path_factory.getbasetemp())
    before = times_parsed(folder / "run.json")
    assert main(["verify", str(folder)]) == 0
    assert times_parsed(folder / "run.json") - before == 1


def test_verify_reads_that_of_what_was_retrained_once_too(
    times_parsed: Callable, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """A step more, so that the weights differ and everything is compared."""
    folder = shared_publication(tmp_path_factory.getbasetemp())
    retrained = tmp_path / "retrained"
    shutil.copytree(shared_two_stages(tmp_path_factory.getbasetemp()) / "checkpoint-2", retrained)
    before = times_parsed(folder / "run.json")
    assert main(["verify", str(folder), "--retrained", str(retrained)]) == 1
    assert times_parsed(folder / "run.json") - before == 1
    assert times_parsed(retrained / "run.json") <= 1


def test_a_record_that_is_not_the_file_any_more_is_not_believed(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """What `reproduce` has read and passes on is proven to be what lies there."""
    folder = linked_copy(shared_publication(tmp_path_factory.getbasetemp()), tmp_path / "copy")
    run = read_checked_record(folder)
    assert verify(folder, run=run).passed
    replace(folder / "run.json", (folder / "run.json").read_text() + "\n")
    write_manifest_anew(folder)
    assert verify(folder).passed
    report = verify(folder, run=run)
    assert [(check.name, "changed meanwhile" in check.message) for check in report.failed] == [("run.json", True)]
    assert report.status("L2") == "skipped"


def test_a_plan_reads_it_once(
    times_parsed: Callable, tmp_path_factory: pytest.TempPathFactory, loopback_hub: LoopbackHub
) -> None:
    checkpoint = shared_two_stages(tmp_path_factory.getbasetemp())
    before = times_parsed(checkpoint / "run.json")
    assert main(["publish", str(checkpoint), "me/read", "--allow_incomplete"]) == 0
    assert times_parsed(checkpoint / "run.json") - before == 1


def test_what_is_sent_is_read_once_where_it_lies_before_and_once_where_it_has_arrived(
    times_parsed: Callable, tmp_path_factory: pytest.TempPathFactory, loopback_hub: LoopbackHub, tmp_path: Path
) -> None:
    """Three files of the same text: the checkpoint's, the copy that is verified before it leaves, what came back."""
    checkpoint = shared_two_stages(tmp_path_factory.getbasetemp())
    before = times_parsed(checkpoint / "run.json")
    assert main(["publish", str(checkpoint), "me/read", "--allow_incomplete", "--yes"]) == 0
    assert times_parsed(checkpoint / "run.json") - before == 3


def test_reproduce_reads_it_once(
    times_parsed: Callable, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    checkpoint, folder = shared_two_stages(tmp_path_factory.getbasetemp()), tmp_path / "publication"
    state = checkpoint / "checkpoint-2"
    stage_publication(checkpoint, "me/tiny", folder, self_contained=True, allow_incomplete=True, replay_from=state)
    before = times_parsed(folder / "run.json")
    assert main(["reproduce", str(folder), str(tmp_path / "again"), "--replay"]) == 0
    assert times_parsed(folder / "run.json") - before == 1
