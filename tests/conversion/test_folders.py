"""A name that stands for no folder ends in one message that says which of many reasons it is."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from huggingface_hub import constants

from support.original_folders import write_original
from transformers_llava.artifacts.snapshots import FolderNotFoundError, find_folder, local_folder
from transformers_llava.cli.main import main
from transformers_llava.conversion.configs.tower_lookup import resolve_tower
from transformers_llava.conversion.opened_checkpoint import open_checkpoint


ANSWERS = {"gated": (403, "GatedRepo"), "absent": (401, "RepoNotFound"), "revision": (404, "RevisionNotFound")}


class Refusals(BaseHTTPRequestHandler):
    """What the Hub answers where there is nothing to read, by the last part of the repository's name."""

    def do_GET(self) -> None:
        kind = self.path.split("/api/models/me/")[-1].split("/")[0].split("?")[0]
        status, code = ANSWERS.get(kind, (410, ""))
        body = json.dumps({"error": "refused"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 (the server asks for this name)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[str]:
    """The address of a Hub that refuses; the client of this process asks it, and nothing else."""
    server = HTTPServer(("127.0.0.1", 0), Refusals)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    point_to(address, tmp_path, monkeypatch)
    yield address
    server.shutdown()
    server.server_close()


def point_to(address, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", address)


@pytest.mark.parametrize(
    ("name", "said"), [("me/gated", "gated"), ("me/absent", "has no repository"), ("me/broken", "answered")]
)
def test_a_hub_that_refuses_is_quoted_by_its_reason(hub, tmp_path, capsys, name, said):
    assert main(["convert", name, str(tmp_path / "target")]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert name in message
    assert ("hf auth login" in message) == (name != "me/broken")
    assert "cannot be reached" not in message
    assert local_folder(name) is None
    assert not (tmp_path / "target").exists()


def test_a_revision_that_is_not_there_is_named(hub):
    with pytest.raises(FolderNotFoundError, match="no revision 'v9'"):
        find_folder("me/revision", revision="v9")


def test_no_network_has_a_message_of_its_own(tmp_path, monkeypatch, capsys):
    point_to("http://127.0.0.1:9", tmp_path, monkeypatch)
    assert main(["convert", "me/x", str(tmp_path / "target")]) == 2
    message = capsys.readouterr().err
    assert "http://127.0.0.1:9 cannot be reached" in message
    assert "me/x" in message


def test_offline_has_a_message_of_its_own(tmp_path, capsys):
    assert main(["convert", "me/x", str(tmp_path / "target")]) == 2
    assert "HF_HUB_OFFLINE is set" in capsys.readouterr().err
    assert main(["inspect", "model", "me/x"]) == 2
    assert "HF_HUB_OFFLINE is set" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["/nowhere/x", "./nowhere", "a/b/c", "", "~/x", "x" * 300])
def test_a_name_that_can_be_no_repository_says_so(tmp_path, capsys, name):
    assert main(["convert", name, str(tmp_path / "target")]) == 2
    message = capsys.readouterr().err
    assert "no such folder" in message or "no config.json" in message
    assert len(message) < 700


def test_a_file_is_no_folder(tmp_path, capsys):
    (tmp_path / "model.bin").write_bytes(b"")
    assert main(["convert", str(tmp_path / "model.bin"), str(tmp_path / "target")]) == 2
    assert "it is a file" in capsys.readouterr().err


def test_a_download_names_no_folder_of_this_machine(tmp_path):
    """Of a repository from the Hub, whose folder is a snapshot, neither the tower nor the base may be a local path."""
    private = write_original(tmp_path / "private" / "model").folder
    snapshot = tmp_path / "cache" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    for name in ("config.json", "non_lora_trainables.bin"):
        (snapshot / name).write_bytes((private / "config.json").read_bytes())
    for named in (str(tmp_path / "private" / "tower"), "../../../private/tower"):
        assert resolve_tower(named, snapshot).config is None
        assert not resolve_tower(named, snapshot).is_local
    for named in (str(private), "../../../private/model"):
        settings = {"peft_type": "LORA", "r": 4, "base_model_name_or_path": named}
        (snapshot / "adapter_config.json").write_text(json.dumps(settings))
        with pytest.raises(ValueError, match="a folder of this machine"):
            open_checkpoint(snapshot)
    assert resolve_tower(str(tmp_path / "private" / "tower"), private).is_local
