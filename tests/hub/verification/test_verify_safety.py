"""`llava verify` makes no request and opens no path that a publication names, unless a flag allows it by name."""

import json
import shutil
import socket
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tests.hub.publications import linked_copy, replace, shared_publication, write_manifest_anew

from transformers_llava.artifacts.run_record.record_file import read_checked_record
from transformers_llava.hub.publication.documents import write_documents
from transformers_llava.hub.publication.manifest import read_manifest
from transformers_llava.hub.recipe_folder import write_recipe_folder
from transformers_llava.hub.verification.present_files import list_present
from transformers_llava.hub.verification.verification_report import VerificationReport
from transformers_llava.hub.verification.verify import verify


@pytest.fixture
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_publication(tmp_path_factory.getbasetemp())


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return linked_copy(whole, tmp_path / "copy")


@pytest.fixture
def asked() -> Iterator[list[str]]:
    """Paths that a server on this machine was asked for; the last entry is its address."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    paths.append(f"http://127.0.0.1:{server.server_port}")
    yield paths
    server.shutdown()


def hostile(folder: Path, **fields: Any) -> None:
    """A mixture with these fields in every source, and everything that follows from it made anew."""
    run = json.loads((folder / "run.json").read_text())
    for one in (run, *run["previous"]):
        one["mixture"]["sources"][0] |= fields
    replace(folder / "run.json", json.dumps(run))
    for path in folder.glob("recipe/*"):
        if path.is_file():
            path.unlink()
    try:
        write_recipe_folder(read_checked_record(folder), folder)
        for name in ("LICENSE.md", "NOTICE", "mof.yml", "README.md", "loss.png"):
            (folder / name).unlink()
        write_documents(folder, "me/tiny", read_checked_record(folder), allow_incomplete=True, notes=[])
    finally:
        write_manifest_anew(folder)


def of_data(report: VerificationReport) -> dict[str, str]:
    return {check.status: check.message for check in report.checks if check.name == "data of 1_align"}


def test_images_at_addresses_are_fetched_only_with_the_flag(
    copy: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    records = json.loads((copy / "recipe/data/toys/train.json").read_text())
    records[1]["image"] = f"{asked.pop()}/latest/meta-data/iam"
    replace(copy / "recipe/data/toys/train.json", json.dumps(records))
    hostile(copy, remote_images="fetch")
    report = verify(copy)
    assert asked == []
    assert report.status("L1") == "ok", report
    assert "--allow_remote_data" in of_data(report)["skipped"]
    monkeypatch.setenv("TRANSFORMERS_LLAVA_IMAGE_HOSTS", "127.0.0.1")  # a host of the user's own network
    report = verify(copy, allow_remote_data=True)
    assert set(asked) == {"/latest/meta-data/iam"}
    assert "remote_image" in of_data(report)["failed"]


PATHS = [
    *("../../private.jsonl", "/etc/hostname", "toys/../../../private.jsonl", "file:///etc/hostname", "toys\\x.json"),
    *("http://127.0.0.1:9/x.json", "x\0y"),
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_leads_out_is_not_opened(
    copy: Path, tmp_path: Path, path: str, opened_outside: "OpenedOutside"
) -> None:
    (tmp_path / "private.jsonl").write_text('{"id": "salary", "conversations": []}\n')
    try:
        hostile(copy, path=path)
    except (ValueError, OSError):  # such a recipe cannot even be written
        replace(copy / "recipe/1_align.mixture.yaml", f"sources: [{{name: toys, path: {json.dumps(path)}}}]")
    with opened_outside(copy) as opened:
        report = verify(copy)
    assert not report.passed or "skipped" in of_data(report)
    assert "salary" not in str(report)
    assert opened == []


class OpenedOutside:
    """Paths below the folder of a test, but outside of its publication, that Python opened."""

    def __init__(self) -> None:
        self.root: Path | None = None
        self.opened: list[str] = []
        sys.addaudithook(self._hook)

    def __call__(self, folder: Path) -> "OpenedOutside":
        self.root, self.opened = folder, []
        return self

    def __enter__(self) -> list[str]:
        return self.opened

    def __exit__(self, *args: object) -> None:
        self.root = None

    def _hook(self, event: str, args: tuple) -> None:
        if self.root is None:
            return
        if event == "open" and isinstance(args[0], str):
            path = Path(args[0])
            outside = path.is_relative_to(self.root.parent) and not path.is_relative_to(self.root)
            if outside or args[0] == "/etc/hostname":
                self.opened.append(args[0])
        elif event == "socket.connect":
            self.opened.append(str(args[1]))


@pytest.fixture(scope="session")
def opened_outside() -> OpenedOutside:
    return OpenedOutside()  # an audit hook cannot be taken away again


def test_the_hook_sees_what_is_opened_and_asked(copy: Path, tmp_path: Path, opened_outside: OpenedOutside) -> None:
    (tmp_path / "private").write_text("x")
    with opened_outside(copy) as opened:
        (tmp_path / "private").read_text()
        (copy / "NOTICE").read_text()
        socket.socket().connect_ex(("127.0.0.1", 9))
    assert opened == [str(tmp_path / "private"), "('127.0.0.1', 9)"]


def test_sources_on_the_hub_are_read_only_with_the_flag(copy: Path) -> None:
    hostile(copy, path="hf://datasets/me/x", revision="0" * 40)
    message = of_data(verify(copy))
    assert "lies at hf://datasets/me/x; --allow_remote_data reads it there" in message["skipped"]
    assert "failed" in of_data(verify(copy, allow_remote_data=True))  # the client is offline in tests


def test_a_folder_of_the_publication_is_read_by_datasets_only_with_the_flag(copy: Path) -> None:
    (copy / "recipe/data/toys/set").mkdir()
    replace(
        copy / "recipe/data/toys/set/README.md", "---\nconfigs: [{config_name: x, data_files: /etc/hostname}]\n---\n"
    )
    hostile(copy, path="toys/set")
    assert "--allow_dataset_folders" in of_data(verify(copy))["skipped"]
    assert "failed" in of_data(verify(copy, allow_dataset_folders=True))


def test_a_source_that_is_repeated_for_ever_is_not_drawn(copy: Path) -> None:
    hostile(copy, weight=1e12)
    assert "at most 1000 is drawn here" in of_data(verify(copy))["failed"]


@pytest.mark.parametrize(
    "target", ["/etc/hostname", "../outside", "../../../../../../etc/hostname", "nowhere", "/dev/zero"]
)
@pytest.mark.parametrize("name", ["NOTICE", "manifest.json", "recipe/data/toys/train.json", "extra"])
def test_links_that_lead_out_end_it_before_anything_is_opened(
    copy: Path, tmp_path: Path, name: str, target: str, opened_outside: OpenedOutside
) -> None:
    (tmp_path / "outside").write_text("secret")
    (copy / name).unlink(missing_ok=True)
    (copy / name).symlink_to(target)
    with opened_outside(copy) as opened:
        report = verify(copy)
    assert [check.name for check in report.failed if check.level == "L0"] == [name]
    assert opened == []


def test_links_to_folders_and_things_that_are_no_files_are_refused(copy: Path) -> None:
    import os

    (copy / "folder").symlink_to("recipe", target_is_directory=True)
    os.mkfifo(copy / "pipe")
    assert set(list_present(copy).refused) == {"folder", "pipe"}
    assert not verify(copy).passed


@pytest.mark.parametrize("is_shared", [False, True])
def test_the_links_of_the_hub_cache_are_followed(whole: Path, tmp_path: Path, is_shared: bool) -> None:
    repository = tmp_path / "hub/models--me--tiny"
    blobs = (repository.parent if is_shared else repository) / "blobs"
    blobs.mkdir(parents=True)
    snapshot = repository / "snapshots" / ("0" * 40)
    for number, path in enumerate(sorted(path for path in whole.rglob("*") if path.is_file())):
        shutil.copyfile(path, blobs / str(number))
        target = snapshot / path.relative_to(whole)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(blobs / str(number))
    report = verify(snapshot, expected=read_manifest(whole).tag)
    assert report.passed, report
    assert report.status("L2") == "ok"


UNLISTED = {
    **dict.fromkeys(["notes.md", "image.PNG", "paper/figure.pdf"], "skipped"),
    **dict.fromkeys(["merges.txt", "vocab.txt", "requirements.txt", "recipe/data/more.png", "recipe/x.md"], "failed"),
    **dict.fromkeys(
        [".cache/x.json", "recipe/.cache/huggingface/x", "a/.cache/x.bin", "x.py", "NOTICE.bin"], "failed"
    ),
}


def test_whatever_is_not_listed_is_named(copy: Path) -> None:
    for name in [*UNLISTED, ".cache/huggingface/download/x.metadata", ".git/HEAD"]:
        replace(copy / name, "x")
    said = {check.name: check.status for check in verify(copy).checks if check.level == "L1"}
    assert {name: said.get(name) for name in UNLISTED} == UNLISTED
    assert said[".git"] == said[".cache/huggingface"] == "skipped"


def test_texts_of_a_publication_stay_on_their_line(copy: Path) -> None:
    replace(copy / "a\nL0 OK\x1b[2K.bin", "x")
    replace(copy / "NOTICE", "one\x1b[2K\u202e\x85two\n")
    text = str(verify(copy))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\nL0 OK\x1b" not in text
    assert r"a\nL0 OK\x1b[2K.bin" in text
