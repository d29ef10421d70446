"""Addresses in records: none costs more than its record, and none of a private network is asked."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from transformers_llava.data.images import connection as connecting
from transformers_llava.data.images import download as remote
from transformers_llava.data.images.connection import ALLOWED_HOSTS, is_public
from transformers_llava.data.images.download import fetch_image, remote_file
from transformers_llava.data.mixture.config import SourceConfig
from transformers_llava.data.mixture.source import load_source
from transformers_llava.data.schema import RecordError


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, list[bytes]]], str]]:
    """A server that sends, for each path, these pieces with a pause between them, and hangs up."""
    monkeypatch.setattr(remote.time, "sleep", lambda seconds: None)
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv(ALLOWED_HOSTS, f"images.example, {address}")
    answers: dict[str, list[bytes]] = {}
    over = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection:
            path = connection.recv(65536).split(b" ")[1].decode()
            try:
                for piece in answers[path]:
                    connection.sendall(piece)
                    over.wait(0.05 if len(answers[path]) > 1 else 0)
            except OSError:
                return  # the client has gone

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()

    def give(more: dict[str, list[bytes]]) -> str:
        answers.update(more)
        return f"http://{address}"

    yield give
    over.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def record(number: int, image: str) -> dict:
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Red."}]
    return {"id": str(number), "image": image, "conversations": turns}


def test_each_bad_address_costs_one_counted_record_and_nothing_is_kept(serve, write_source, png) -> None:
    data = png(64, 64, seed=3)
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data)
    to = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %b\r\n\r\n"
    site = serve(
        {
            "/good": [whole + data],
            "/none": [b"220 mail.example ESMTP\r\n"],
            "/empty": [b""],
            "/short": [whole + data[:300]],
            "/chunks": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n" + data[:300]],
            "/loop": [to % b"/loop"],
            "/inside": [to % b"http://localhost:9/x"],
            "/file": [to % b"file:///etc/passwd"],
            "/ftp": [to % b"ftp://127.0.0.1/x"],
            "/half": [b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n" + data[:300]],
        }
    )
    names = ["none", "empty", "short", "chunks", "loop", "inside", "file", "ftp", "half"]
    urls = [f"{site}/{name}" for name in names]
    urls += ["http://127.0.0.1:port/x", "http://a b/x", "http://[::1/x", "http://", "http://\udcff/x", "http://x..y/x"]
    urls += [f"{site}/x y", "https://user@127.0.0.1:1/x", f"http://{'a' * 300}/x", "http://127.0.0.1:99999/"]
    path = write_source([record(n, url) for n, url in enumerate([f"{site}/good", *urls])])
    dataset, report = load_source(SourceConfig("s", str(path), remote_images="fetch"))
    assert dataset["id"] == ["0"]
    dropped = dict(report.dropped)
    assert dropped == {"remote_image": len(urls) - 2, "truncated_image": 1, "invalid_utf8": 1}
    messages = {url: error_of(url).message for url in urls[:9]}
    assert "ends after 300 of" in messages[f"{site}/short"]
    assert "redirects to what is not asked" in messages[f"{site}/ftp"]
    assert "Redirection to url" in messages[f"{site}/file"]
    assert "of a private network" in messages[f"{site}/inside"]
    assert not [url for url in urls if remote_file(url).exists()]
    assert remote_file(f"{site}/good").read_bytes() == data


def error_of(url: str) -> RecordError:
    with pytest.raises(RecordError) as caught:
        fetch_image(url)
    return caught.value


class Counted(list[bytes]):
    """Pieces of an answer, and how many of them were sent."""

    num_sent = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in super().__iter__():
            self.num_sent += 1
            yield piece


def test_a_server_that_sends_for_ever_is_left_in_time(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "MAX_REMOTE_SECONDS", 0.3)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    answers = {
        "/body": Counted([head, *[b"x"] * 2000]),
        "/head": Counted([b"HTTP/1.1 200 OK\r\n", *[b"X-A: 1\r\n"] * 2000]),
    }
    site = serve(answers)
    for path, pieces in answers.items():
        assert "took longer than 0 seconds" in error_of(f"{site}{path}").message
        assert 0 < pieces.num_sent < len(pieces)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "10.0.0.7",
    ]
    + ["169.254.169.254", "192.168.1.1", "172.16.0.1", "100.64.0.1", "[fe80::1]", "[fd00::1]", "[64:ff9b::a00:1]"],
)
def test_private_addresses_are_not_asked(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ALLOWED_HOSTS, raising=False)
    monkeypatch.setattr(socket.socket, "connect", lambda *args: pytest.fail("it was asked"))
    error = error_of(f"http://{host}:9/x")
    assert (error.reason, "private network" in error.message) == ("remote_image", True)
    assert f"{ALLOWED_HOSTS}={host.strip('[]')}" in error.message


def test_every_address_of_a_name_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    places = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("93.184.216.34", "10.0.0.7")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: places)
    monkeypatch.setattr(socket.socket, "connect", lambda *args: pytest.fail("it was asked"))
    assert "'both.example' is 10.0.0.7" in error_of("http://both.example/x").message
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # a proxy may be private; what it is asked for may not
    assert "'both.example' is 10.0.0.7" in error_of("http://both.example/x").message


def test_public_addresses_are_told_from_others() -> None:
    public = ["93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:8.8.8.8", "2002:808:808::1"]
    assert all(map(is_public, public))
    private = ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "::1", "ff02::1", "fec0::1", "fe80::1%eth0"]
    private += ["2002:7f00:1::1", "2002:a00:1::", "64:ff9b::7f00:1", "::ffff:10.0.0.1", "198.18.0.1"]
    assert not any(map(is_public, private))
