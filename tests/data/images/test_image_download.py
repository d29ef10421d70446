"""Images behind an address are fetched where the source says so, once; image roots on the Hub are folders."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from transformers_llava.data.images import connection as connecting
from transformers_llava.data.images import download as remote
from transformers_llava.data.images.connection import ALLOWED_HOSTS
from transformers_llava.data.images.download import fetch_image, fetch_image_root, remote_file
from transformers_llava.data.mixture.config import MixtureConfig, SourceConfig
from transformers_llava.data.mixture.mixture_building import build_mixture
from transformers_llava.data.mixture.source import image_root_of, load_source
from transformers_llava.data.schema import RecordError


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def site(png, monkeypatch) -> Iterator[tuple[str, list[str]]]:
    """A web site on loopback: its address, and what was asked of it."""
    monkeypatch.setattr(remote.time, "sleep", lambda seconds: None)
    monkeypatch.setenv(ALLOWED_HOSTS, "127.0.0.1")
    asked: list[str] = []
    image = png(30, 20)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            status = {"/gone.png": 404, "/busy.png": 503, "/moved.png": 302, "/away.png": 302}.get(self.path, 200)
            if self.path == "/busy.png" and asked.count(self.path) == 3:
                status = 200
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/x.png" if self.path == "/moved.png" else "file:///etc/passwd")
            data = b"words" if self.path == "/page.png" else image
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def record(number: int, image: str) -> dict:
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Red."}]
    return {"id": str(number), "image": image, "conversations": turns}


def test_addresses_are_fetched_once_and_only_where_the_source_says_so(site, write_source):
    address, asked = site
    names = ("x", "moved", "busy", "gone", "page", "away")
    path = write_source([record(n, f"{address}/{name}.png") for n, name in enumerate(names)])
    source = {"name": "s", "path": str(path)}
    _, refused = load_source(SourceConfig(**{**source, "remote_images": "fetch"}))
    assert dict(refused.dropped) == {"remote_image": 2, "unreadable_image": 1}
    assert "404" in refused.examples["remote_image"][0].message
    assert "file:///etc/passwd" in refused.examples["remote_image"][1].message
    assert (asked.count("/busy.png"), asked.count("/gone.png")) == (3, 1)
    num_asked = asked.count("/x.png")
    dataset, report = build_mixture(MixtureConfig([SourceConfig(**source, remote_images="fetch")]))
    assert dataset["id"] == ["0", "1", "2"]
    assert asked.count("/x.png") == num_asked  # taken from the cache
    assert report.sources[0].digest_covers == "messages and image bytes"
    with pytest.raises(ValueError, match="nothing is fetched unless the source says so"):
        build_mixture(MixtureConfig([SourceConfig(**source)]))


def test_a_lost_file_is_fetched_again(site, png):
    address, asked = site
    for _ in range(2):
        assert fetch_image(f"{address}/x.png") == png(30, 20) == remote_file(f"{address}/x.png").read_bytes()
        remote_file(f"{address}/x.png").unlink()
    assert len(asked) == 2


def test_what_does_not_decode_is_not_kept(site):
    with pytest.raises(RecordError, match="not in a format"):
        fetch_image(f"{site[0]}/page.png")
    assert not remote_file(f"{site[0]}/page.png").exists()


def test_what_is_far_too_large_is_no_image(site, monkeypatch):
    monkeypatch.setattr(connecting, "MAX_REMOTE_IMAGE_BYTES", 10)
    with pytest.raises(RecordError, match="more than 10 bytes"):
        fetch_image(f"{site[0]}/x.png")
    assert not remote_file(f"{site[0]}/x.png").exists()


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="remote_images='maybe'"):
        SourceConfig("s", "x.json", remote_images="maybe")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch) -> Path:
    """A data set as the Hub's client keeps it on disk; the client itself reads it, without asking the Hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = tmp_path / "datasets--owner--name" / "snapshots" / COMMIT
    (folder / "images").mkdir(parents=True)
    return folder


def test_an_image_root_on_the_hub_is_a_folder_or_an_archive(repository):
    (repository / "images.zip").write_bytes(b"PK")
    root = f"hf://datasets/owner/name@{COMMIT}"
    assert fetch_image_root(root) == repository
    assert image_root_of(SourceConfig("s", "x.json", image_root=f"{root}/images")) == repository / "images"
    assert fetch_image_root(f"{root}/images.zip") == repository / "images.zip"


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("hf://datasets/owner/name", "the 40 digits"),
        ("hf://datasets/owner/name@main/images", "the 40 digits"),
        (f"hf://datasets/owner/name@{COMMIT}/../x", "leaves its repository"),
        (f"hf://datasets/owner/name@{COMMIT}/other", "no folder 'other'"),
        (f"hf://datasets/owner/name@{COMMIT}/other.zip", "cannot be fetched"),
        (f"hf://datasets/owner/other@{COMMIT}", "cannot be fetched"),
    ],
)
def test_an_image_root_that_is_not_there_is_refused(repository, root, message):
    with pytest.raises(ValueError, match=message):
        fetch_image_root(root)
