"""Read one HTTP request as far as its handler wants, and send the answer that the handler returns."""

import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.fake_hub.errors import HubError, no_repository
from tests.fake_hub.repositories import Repository
from tests.fake_hub.storage import ObjectStore
from tests.fake_hub.xet import XetStore


_CHUNK = 1 << 20


@dataclass(frozen=True)
class Hub:
    """What all requests share. `storage_endpoint` is another name of the same host: there the token must not go."""

    root: Path
    endpoint: str
    storage_endpoint: str
    user: str
    token: str
    read_token: str
    xet: XetStore | None
    lock: threading.Lock = field(default_factory=threading.Lock)  # one writer at a time

    @property
    def store(self) -> ObjectStore:
        return ObjectStore(self.root)


@dataclass(frozen=True)
class Answer:
    """Body in memory, or `file` on disk. Where `ranged`, the client may ask for a part."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None
    ranged: bool = False

    @property
    def size(self) -> int:
        return self.file.stat().st_size if self.file else len(self.body)

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        if self.file is None:
            yield self.body[start:stop]
            return
        with self.file.open("rb") as stream:
            stream.seek(start)
            while start < stop and (chunk := stream.read(min(_CHUNK, stop - start))):
                start += len(chunk)
                yield chunk


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})


class Request:
    """What a handler asks: who calls, with which query and body, about which repository."""

    def __init__(self, handler: BaseHTTPRequestHandler, hub: Hub):
        url = urllib.parse.urlsplit(handler.path)
        self.hub, self.method, self.path, self.query_text = hub, handler.command, url.path, url.query
        self.query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        self.headers = handler.headers
        self._stream, self._is_read = handler.rfile, False

    # Body

    def chunks(self) -> Iterator[bytes]:
        """The body, once."""
        if self._is_read:
            return
        self._is_read = True
        if (self.headers.get("Transfer-Encoding") or "").lower() == "chunked":
            while size := int(self._stream.readline().split(b";")[0], 16):
                yield self._stream.read(size)
                self._stream.readline()
            self._stream.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0 and (chunk := self._stream.read(min(_CHUNK, left))):
            left -= len(chunk)
            yield chunk
        if left:
            raise ConnectionError("the client went away in the middle of a body")

    def body(self) -> bytes:
        return b"".join(self.chunks())

    def json(self) -> Any:
        return json.loads(self.body() or b"{}")

    def asks(self, name: str) -> bool:
        """A flag of the query: `?blobs`, `?recursive=True`, `?create_pr=1`."""
        return self.query.get(name, "false").lower() in ("", "1", "true")

    # Who and what

    @property
    def bearer(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ").strip() or None

    def reader(self) -> str:
        """Raises `HubError` 401: no token, or one that is not known here."""
        if self.bearer not in (self.hub.token, self.hub.read_token):
            raise HubError(401, "Invalid username or password.")
        return self.hub.user

    def writer(self) -> str:
        """Raises `HubError` 401 as `reader`; 403: the token may only read."""
        user = self.reader()
        if self.bearer != self.hub.token:
            raise HubError(403, "You have read access but not the required permissions for this operation")
        return user

    def repository(self, kind: str | None, repo_id: str) -> Repository:
        """`kind` as in an address: `models`, `datasets`, `spaces`, or nothing for a model."""
        repository = Repository(self.hub.root, (kind or "models").removesuffix("s"), repo_id)
        if not repository.exists():
            raise no_repository()
        if repository.facts["private"] and self.bearer not in (self.hub.token, self.hub.read_token):
            raise no_repository()  # as the Hub does: who may not see it does not learn that it is there
        return repository

    def address(self, repository: Repository) -> str:
        kind = "" if repository.repo_type == "model" else f"{repository.repo_type}s/"
        return f"{self.hub.endpoint}/{kind}{repository.repo_id}"


Handler = Callable[..., Answer]
_ROUTES: list[tuple[tuple[str, ...], re.Pattern[str], Handler]] = []
_PLACEHOLDERS = {
    "{kind}": "(?P<kind>models|datasets|spaces)",
    "{kind_or_not}": "(?:(?P<kind>datasets|spaces)/)?",
    "{id}": "(?P<repo_id>[^/]+/[^/]+?)",
    "{revision}": "(?P<revision>[^/]+)",  # slashes of `refs/pr/1` come quoted
    "{name}": "(?P<name>[^/]+)",
    "{path}": "(?P<path>.+)",
    "{number}": r"(?P<number>\d+)",
    "{sha256}": "(?P<sha256>[0-9a-f]{64})",
}


def route(methods: str, pattern: str) -> Callable[[Handler], Handler]:
    """`@route("GET", "/api/{kind}/{id}/refs")`: the handler gets the request and the named places, unquoted."""
    for place, expression in _PLACEHOLDERS.items():
        pattern = pattern.replace(place, expression)

    def register(handler: Handler) -> Handler:
        _ROUTES.append((tuple(methods.split("|")), re.compile(pattern), handler))
        return handler

    return register


def dispatch(request: Request) -> Answer:
    """Calls the handler of the request. Raises `HubError` 404: there is none, and the message says for what."""
    for methods, pattern, handler in _ROUTES:
        if request.method in methods and (match := pattern.fullmatch(request.path)):
            places = {name: urllib.parse.unquote(text) if text else text for name, text in match.groupdict().items()}
            return handler(request, **places)
    raise HubError(404, f"the loopback Hub does not know {request.method} {request.path}")
