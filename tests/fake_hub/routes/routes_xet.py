"""Speak the Xet protocol, the client's default: tokens, xorbs and shards in, and the plans that rebuild files.

The same routes exist a second time under `/_inside`, for the Hub itself: it fetches what was uploaded once, to hold it
as a plain object too. Faults and the log of requests leave `/_inside` alone.
"""

import re
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.fake_hub.errors import HubError
from tests.fake_hub.exchange import Answer, Hub, Request, json_answer, route
from tests.fake_hub.xet import XetStore, chunk_ranges, rebuild


INSIDE = "/_inside"
_BASE = "(?P<base>/_xet|/_inside)"
_SECONDS_OF_TOKEN = 3600


@route("GET", "/api/{kind}/{id}/xet-(?:read|write)-token/{revision}(?:/{path})?")
def token(request: Request, kind: str, repo_id: str, revision: str, path: str | None = None) -> Answer:
    request.repository(kind, repo_id)
    _store(request)
    held = request.writer() and request.hub.token if "-write-" in request.path else request.hub.read_token
    facts = {
        "casUrl": f"{request.hub.endpoint}/_xet",
        "exp": int(time.time()) + _SECONDS_OF_TOKEN,
        "accessToken": held,
    }
    names = {"casUrl": "X-Xet-Cas-Url", "accessToken": "X-Xet-Access-Token", "exp": "X-Xet-Token-Expiration"}
    return json_answer(facts, headers={names[name]: str(value) for name, value in facts.items()})


@route("POST", _BASE + "/v1/xorbs/default/{sha256}")
def put_xorb(request: Request, base: str, sha256: str) -> Answer:
    request.writer()
    return json_answer({"was_inserted": _store(request).put_xorb(sha256, request.chunks())})


@route("POST", _BASE + "/v1/shards")
def put_shard(request: Request, base: str) -> Answer:
    request.writer()
    _store(request).put_shard(request.body())
    return json_answer({"result": 1})


@route("GET", _BASE + "/(?P<version>v[12])/reconstructions/{sha256}")
def plan_rebuilding(request: Request, base: str, version: str, sha256: str) -> Answer:
    """Terms of the asked bytes, and for each xorb the addresses of its chunks."""
    request.reader()
    store = _store(request)
    file = store.file(sha256)
    asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range") or "")
    start, stop = (int(asked[1]), int(asked[2]) + 1) if asked else (0, file.size)
    if start >= file.size > 0:
        raise HubError(416, f"the file has {file.size} bytes, asked was from {start}")
    skip, terms = store.terms(file, start, stop)
    places: dict[str, list[dict[str, Any]]] = {}
    for xorb, start, stop in chunk_ranges(terms):
        address = f"{request.hub.storage_endpoint}{base}/xorbs/{xorb}"
        first, last = store.byte_range(xorb, start, stop)
        chunks, found = {"start": start, "end": stop}, {"start": first, "end": last}
        if version == "v1":
            place = {"url": address, "range": chunks, "url_range": found}
        else:
            place = {"url": address, "ranges": [{"chunks": chunks, "bytes": found}]}
        places.setdefault(xorb, []).append(place)
    listed = [{"hash": t.xorb, "unpacked_length": t.size, "range": {"start": t.start, "end": t.stop}} for t in terms]
    name = "fetch_info" if version == "v1" else "xorbs"
    return json_answer({"offset_into_first_range": skip, "terms": listed, name: places})


@route("GET", _BASE + "/xorbs/{sha256}")
def get_xorb(request: Request, base: str, sha256: str) -> Answer:
    path = _store(request).xorb(sha256)
    if not path.is_file():
        raise HubError(404, f"there is no xorb {sha256}")
    return Answer(file=path, ranged=True)


def materialize(hub: Hub, sha256: str) -> bool:
    """What was uploaded by Xet becomes an object, whose sha256 is checked; False if nothing was uploaded."""
    file = hub.xet.find(sha256) if hub.xet else None
    if file is None:
        return False
    with tempfile.TemporaryDirectory(dir=hub.root) as folder:
        rebuild(file, f"{hub.endpoint}{INSIDE}", hub.token, Path(folder) / "content")
        with (Path(folder) / "content").open("rb") as stream:
            hub.store.put(sha256, iter(lambda: stream.read(1 << 20), b""))
    hub.store.note_xet_hash(sha256, file.xet_hash)
    return True


def _store(request: Request) -> XetStore:
    if request.hub.xet is None:
        raise HubError(404, "this loopback Hub was started without --xet; set HF_HUB_DISABLE_XET=1 for its clients")
    return request.hub.xet
