"""Fetch the body of a web address within bounds, and never from an address of the user's own network unasked.

Records name the addresses, and records come from anybody. A request to `http://169.254.169.254/` or to a machine
beside this one can give away credentials or set something off, so only public addresses are asked. The address that
is checked is the one that is connected to: a name that changes its meaning in between gains nothing.
"""

import functools
import http.client
import ipaddress
import os
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

from transformers_llava.artifacts.limits import MAX_REMOTE_IMAGE_BYTES, MAX_REMOTE_REDIRECTS, MAX_REMOTE_SECONDS


ALLOWED_HOSTS = "TRANSFORMERS_LLAVA_IMAGE_HOSTS"  # a setting of the user; no mixture file can give it
_CHUNK = 1 << 16
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class AddressRefusedError(ValueError):
    """An address that is not asked; says why, and how the user can allow it."""


def download(url: str) -> bytes:
    """
    What a server gives for an address: `http` or `https` only, also after a redirection.

    Raises:
        `AddressRefusedError`, `ValueError`: asking again would not help.
        `OSError`, `http.client.HTTPException`: the server or the line failed.
    """
    check_url(url)
    deadline = _Deadline()
    opener = urllib.request.build_opener(_Http(deadline), _Https(deadline), _Redirects)
    request = urllib.request.Request(url, headers={"User-Agent": "transformers-llava"})
    try:
        with opener.open(request, timeout=MAX_REMOTE_SECONDS) as response:
            data = _body(response)
        if deadline.has_passed:  # an answer without a length looks whole where it was shut
            raise TimeoutError
        return data
    except (OSError, http.client.HTTPException) as error:
        if deadline.has_passed:
            raise ValueError(f"it took longer than {MAX_REMOTE_SECONDS:.0f} seconds") from error
        raise
    finally:
        deadline.end()


def check_url(url: str) -> None:
    """Raises `AddressRefusedError` for what is no http address with a host."""
    try:
        parts = urllib.parse.urlsplit(url)
        is_web = parts.scheme.lower() in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:  # a port of letters, brackets without an address
        raise AddressRefusedError(f"{url[:200]!r} is no address ({error})") from error
    if not is_web or any(ord(character) <= 32 or ord(character) == 127 for character in url):
        raise AddressRefusedError(f"{url[:200]!r} is no http address")


def allowed_hosts() -> frozenset[str]:
    """Hosts (`name` or `name:port`) that the user lets be asked although they are not public."""
    return frozenset(host.strip().lower() for host in os.environ.get(ALLOWED_HOSTS, "").split(",") if host.strip())


def _body(response: Any) -> bytes:
    chunks, size = [], 0
    while chunk := response.read1(_CHUNK):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_REMOTE_IMAGE_BYTES:
            raise ValueError(f"it has more than {MAX_REMOTE_IMAGE_BYTES:,} bytes")
    announced = response.headers.get("Content-Length", "")
    is_chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
    if announced.isdecimal() and int(announced) != size and not is_chunked:
        raise ConnectionError(f"the answer ends after {size:,} of {int(announced):,} bytes")
    return b"".join(chunks)


class _Deadline:
    """Shuts the connections of one download when its time is up, however slowly the server sends."""

    def __init__(self) -> None:
        self.has_passed = False
        self.sockets: list[socket.socket] = []
        self.timer = threading.Timer(MAX_REMOTE_SECONDS, self._pass)
        self.timer.daemon = True
        self.timer.start()

    def watch(self, connection: socket.socket) -> None:
        self.sockets.append(connection.dup())  # TLS takes the socket over; its twin still shuts the same connection

    def end(self) -> None:
        self.timer.cancel()
        for connection in self.sockets:
            connection.close()

    def _pass(self) -> None:
        self.has_passed = True
        for connection in self.sockets:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it has ended by itself


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = MAX_REMOTE_REDIRECTS

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        try:
            check_url(newurl)
        except AddressRefusedError as error:
            raise AddressRefusedError(f"it redirects to what is not asked: {error}") from error
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Http(urllib.request.HTTPHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self.deadline = deadline

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_checked(http.client.HTTPConnection, req, self.deadline), req)  # type: ignore[arg-type]


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self.deadline = deadline

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_checked(http.client.HTTPSConnection, req, self.deadline), req)  # type: ignore[arg-type]


def _checked(kind: type, request: urllib.request.Request, deadline: _Deadline) -> Callable[..., Any]:
    """A connection of `kind` that connects to public addresses only, or to the proxy that the user has set."""
    parts = urllib.parse.urlsplit(request.full_url)
    is_allowed = _is_allowed(parts)
    has_proxy = request.has_proxy() or getattr(request, "_tunnel_host", None) is not None
    if has_proxy and not is_allowed:
        _check_behind_proxy(str(parts.hostname))

    def connect(address: tuple[str, int], timeout: float, source_address: Any = None) -> socket.socket:
        connection = _connect(address, timeout, is_allowed=is_allowed or has_proxy)
        deadline.watch(connection)
        return connection

    def make(host: str, **kwargs: Any) -> Any:
        connection = kind(host, **kwargs)
        connection._create_connection = connect
        return connection

    return make


def _is_allowed(parts: urllib.parse.SplitResult) -> bool:
    name = str(parts.hostname).lower()
    port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
    return bool({name, f"{name}:{port}"} & allowed_hosts())


def _check_behind_proxy(host: str) -> None:
    """The proxy resolves names; what can be seen from here is checked here."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return  # known to the proxy alone
    for *_, address in found:
        _check_public(host, str(address[0]))


def _connect(address: tuple[str, int], timeout: float, *, is_allowed: bool) -> socket.socket:
    found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
    if not is_allowed:
        for *_, place in found:
            _check_public(address[0], str(place[0]))
    for number, (family, kind, protocol, _, place) in enumerate(found):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(timeout)
            connection.connect(place)
        except OSError:
            connection.close()
            if number + 1 == len(found):
                raise
        else:
            return connection
    raise OSError(f"{address[0]!r} has no address")


def _check_public(host: str, address: str) -> None:
    if not is_public(address):
        raise AddressRefusedError(
            f"{host!r} is {address}, an address of this machine or of a private network, which a record is not "
            f"trusted to name. If it is your own image server, set {ALLOWED_HOSTS}={host}"
        )


@functools.lru_cache(maxsize=1024)
def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet, also where IPv6 only wraps an IPv4 address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(str(wrapped))
        if ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_unspecified


__all__ = ["ALLOWED_HOSTS", "AddressRefusedError", "allowed_hosts", "check_url", "download", "is_public"]
