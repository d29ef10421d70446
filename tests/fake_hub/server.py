"""
Start a Hugging Face Hub on loopback, for tests and for users who want to try publishing without an account:

    python -m tests.fake_hub.server --port 8910 --root /tmp/hub --xet

Repositories are bare git repositories, large files lie under their sha256, a commit is an atomic move of a ref, and
the unmodified `huggingface_hub` talks to it. There is one account and it may write everywhere: not for a network.
"""

import argparse
import json
import secrets
import signal
import string
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.fake_hub.errors import HubError
from tests.fake_hub.exchange import Answer, Hub, Request, dispatch, json_answer
from tests.fake_hub.faults import FaultPlan, Faults, HungUpError
from tests.fake_hub.routes import (
    routes_content,
    routes_discussions,
    routes_downloading,
    routes_repositories,
    routes_uploading,
    routes_xet,
)
from tests.fake_hub.xet import XetStore


ROUTES = (routes_content, routes_discussions, routes_downloading, routes_repositories, routes_uploading, routes_xet)
USER = "loopback"
_CONTROL = "/_control/"
_LETTERS_OF_TOKEN = 34  # as many as on the Hub, so that what looks for tokens finds these


class HubServer(ThreadingHTTPServer):
    """Counts its connections: what a client has sent before it died counts until it has been worked off."""

    num_connections = 0  # changed in the one thread that accepts, and under the lock in those that close
    _lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self.num_connections += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._lock:
            self.num_connections -= 1


class HubHandler(BaseHTTPRequestHandler):
    """One connection of a client; each request becomes one answer."""

    protocol_version = "HTTP/1.1"
    server_version = "loopback-hub"
    server: HubServer

    def __init__(self, *arguments: object, hub: Hub, faults: Faults, log: bool):
        self.hub, self.faults, self.log = hub, faults, log
        super().__init__(*arguments)  # type: ignore[arg-type]

    def answer(self) -> None:
        request, name = Request(self, self.hub), f"{self.command} {self.path.partition('?')[0]}"
        try:
            if request.path.startswith(_CONTROL):
                answer = self._control(request)
            elif request.path.startswith(routes_xet.INSIDE):
                answer = self._answer(lambda: dispatch(request))
            else:
                answer = self._answer(lambda: self.faults.carry_out(name, lambda: dispatch(request)))
                self.faults.log(name, answer.status)
            for _ in request.chunks():  # what a refusal left unread would be taken for the next request
                pass
            self._send(answer)
        except (HungUpError, ConnectionError):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

    def log_message(self, format: str, *arguments: object) -> None:
        if self.log:
            print(format % arguments, file=sys.stderr, flush=True)

    def _answer(self, action: Callable[[], Answer]) -> Answer:
        try:
            return action()
        except HubError as error:
            headers = {"X-Error-Message": error.message.replace("\n", " "), **error.headers}
            headers |= {"X-Error-Code": error.code} if error.code else {}
            return json_answer({"error": error.message}, error.status, headers)
        except (HungUpError, ConnectionError):
            raise
        except Exception as error:
            traceback.print_exc()
            return json_answer({"error": f"the loopback Hub failed: {error}"}, 500)

    def _control(self, request: Request) -> Answer:
        """For the test alone: `POST faults` changes what goes wrong, `GET` says what was and what is."""
        if request.path == f"{_CONTROL}faults":
            return json_answer(self.faults.change(FaultPlan(**request.json())))
        said = {"requests": self.faults.requests, "stalled": self.faults.num_stalled}
        return json_answer({**said, "connections": self.server.num_connections}[request.path.removeprefix(_CONTROL)])

    def _send(self, answer: Answer) -> None:
        size, status, headers = answer.size, answer.status, dict(answer.headers)
        start, stop = 0, size
        first, dash, last = (self.headers.get("Range") or "").removeprefix("bytes=").partition("-")
        if answer.ranged and dash and first:
            start, stop, status = int(first), min(int(last) + 1 if last else size, size), 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
            if start >= size:
                start = stop = 0
                status, headers["Content-Range"] = 416, f"bytes */{size}"
        self.send_response(status)
        for name, value in {"Content-Length": str(stop - start), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            for chunk in answer.read(start, stop):
                self.wfile.write(chunk)


def make_server(root: Path, *, port: int = 0, xet: bool = False, log: bool = False) -> tuple[HubServer, Hub]:
    """A server that listens on 127.0.0.1 (and nowhere else), and what it serves. Port 0: one that is free."""
    root = root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    server = HubServer(("127.0.0.1", port), BaseHTTPRequestHandler)
    number = server.server_address[1]
    hub = Hub(
        root=root,
        endpoint=f"http://127.0.0.1:{number}",
        storage_endpoint=f"http://localhost:{number}",
        user=USER,
        token=_make_token(),
        read_token=_make_token(),
        xet=XetStore(root) if xet else None,
    )
    server.RequestHandlerClass = partial(HubHandler, hub=hub, faults=Faults(), log=log)  # type: ignore[assignment]
    return server, hub


def main() -> None:
    parser = argparse.ArgumentParser(description="A Hugging Face Hub on 127.0.0.1, for trying and testing.")
    parser.add_argument("--root", type=Path, required=True, help="folder of repositories and contents; kept")
    parser.add_argument("--port", type=int, default=8910, help="0: one that is free")
    parser.add_argument("--xet", action="store_true", help="offer the Xet transport beside LFS")
    parser.add_argument("--log", action="store_true", help="one line per request")
    parser.add_argument("--json", action="store_true", help="say endpoint and tokens as JSON, for programs")
    asked = parser.parse_args()
    server, hub = make_server(asked.root, port=asked.port, xet=asked.xet, log=asked.log)
    if asked.json:
        facts = {"endpoint": hub.endpoint, "user": hub.user, "token": hub.token, "read_token": hub.read_token}
        print(json.dumps(facts), flush=True)
    else:
        without_xet = "" if asked.xet else " HF_HUB_DISABLE_XET=1"
        print(f"A Hub for you alone. In another shell:\n\nexport HF_ENDPOINT={hub.endpoint} HF_TOKEN={hub.token}"
              f"{without_xet}\n\nIts account is {hub.user!r}. Ctrl-C ends it.", flush=True)  # fmt: skip
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that started it with `&` has it ignored
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


def _make_token() -> str:
    letters = string.ascii_letters + string.digits
    return "hf_" + "".join(secrets.choice(letters) for _ in range(_LETTERS_OF_TOKEN))


if __name__ == "__main__":
    main()
