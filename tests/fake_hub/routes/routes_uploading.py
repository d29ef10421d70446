"""Take a commit: which files are large, their contents by LFS or Xet, and then all operations at once."""

import base64
import json
from typing import Any

from tests.fake_hub import card_rules
from tests.fake_hub.errors import HubError
from tests.fake_hub.exchange import Answer, Request, json_answer, route
from tests.fake_hub.repositories import LFS_SUFFIXES, Operation, Put, Remove, Repository
from tests.fake_hub.routes.routes_discussions import open_discussion
from tests.fake_hub.routes.routes_xet import materialize


_SMALLEST_LARGE = 10 * 1024 * 1024  # bytes; text of this size goes by LFS
_SMALLEST_LARGE_BINARY = 1_000_000  # bytes
_LFS_JSON = {"Content-Type": "application/vnd.git-lfs+json"}


@route("POST", "/api/{kind}/{id}/preupload/{revision}")
def plan_upload(request: Request, kind: str, repo_id: str, revision: str) -> Answer:
    """How each file should come, and what lies there now, so that the client leaves out what is unchanged."""
    asked, _ = request.json(), request.writer()
    present = request.repository(kind, repo_id).files(revision)
    plan = []
    for file in asked["files"]:
        facts = {"path": file["path"], "uploadMode": _mode(file), "shouldIgnore": False}
        if entry := present.get(file["path"]):
            facts["oid"] = entry.pointer.sha256 if entry.pointer else entry.oid
        plan.append(facts)
    return json_answer({"files": plan})


@route("POST", r"/{kind_or_not}{id}\.git/info/lfs/objects/batch")
def plan_objects(request: Request, kind: str | None, repo_id: str) -> Answer:
    asked = request.json()
    request.repository(kind, repo_id)
    if asked["operation"] == "upload":
        request.writer()
    objects = [_object_plan(request, asked["operation"], item) for item in asked["objects"]]
    return json_answer({"transfer": "basic", "objects": objects}, headers=_LFS_JSON)


@route("PUT", "/_storage/{sha256}")
def put_object(request: Request, sha256: str) -> Answer:
    refuse_token(request)
    request.hub.store.put(sha256, request.chunks())
    return json_answer({}, headers={"ETag": f'"{sha256}"'})


@route("POST", "/_storage/{sha256}/verify")
def verify_object(request: Request, sha256: str) -> Answer:
    asked, store = request.json(), request.hub.store
    is_whole = store.has(sha256) and store.pointer(sha256).size == asked["size"]
    return json_answer({}, 200 if is_whole else 404)


@route("POST", "/api/{kind}/{id}/commit/{revision}")
def commit(request: Request, kind: str, repo_id: str, revision: str) -> Answer:
    """All operations in one commit or none, on a branch or (`?create_pr`) on a new pull request."""
    body, user = request.body(), request.writer()
    repository = request.repository(kind, repo_id)
    header, operations = _read_operations(request, repository, revision, body)
    for operation in operations:  # a bad card never lands, whoever sends it
        if isinstance(operation, Put) and operation.path == "README.md":
            errors, _ = card_rules.validate(repository.read_blob(operation.oid).decode(), repository.repo_type)
            if errors:
                raise HubError(400, "; ".join(errors))
    title, text, parent = header["summary"], header.get("description") or "", header.get("parentCommit")
    facts: dict[str, Any] = {"success": True, "hookOutput": ""}
    with request.hub.lock:
        if request.asks("create_pr"):
            base = repository.resolve(parent or revision)
            number = open_discussion(repository, user, title, is_pull_request=True, base=base)
            oid = repository.commit(f"refs/pr/{number}", title, operations, body=text)
            facts["pullRequestUrl"] = f"{request.address(repository)}/discussions/{number}"
        else:
            repository.resolve(revision)
            oid = repository.commit(revision, title, operations, body=text, parent=parent)
    return json_answer(facts | {"commitOid": oid, "commitUrl": f"{request.address(repository)}/commit/{oid}"})


def refuse_token(request: Request) -> None:
    """Storage is another host and its addresses are signed: a token that arrives there has leaked."""
    if request.bearer:
        raise HubError(400, "Only one auth mechanism allowed: the address is signed, and a token was sent along")


def _mode(file: dict[str, Any]) -> str:
    is_binary = b"\0" in base64.b64decode(file.get("sample") or "")
    is_large = file["size"] >= (_SMALLEST_LARGE_BINARY if is_binary else _SMALLEST_LARGE)
    return "lfs" if is_large or file["path"].rpartition(".")[2].lower() in LFS_SUFFIXES else "regular"


def _object_plan(request: Request, operation: str, item: dict[str, Any]) -> dict[str, Any]:
    sha256 = item["oid"]
    plan = {"oid": sha256, "size": item["size"]}
    href = f"{request.hub.storage_endpoint}/_storage/{sha256}"
    is_held = request.hub.store.has(sha256)
    if operation == "upload" and not is_held:
        verify = {"href": f"{request.hub.endpoint}/_storage/{sha256}/verify"}
        return plan | {"actions": {"upload": {"href": href}, "verify": verify}}
    if operation == "download" and not is_held:
        return plan | {"error": {"code": 404, "message": "Object does not exist"}}
    return plan | ({"actions": {"download": {"href": href}}} if operation == "download" else {})


def _read_operations(
    request: Request, repository: Repository, revision: str, body: bytes
) -> tuple[dict[str, Any], list[Operation]]:
    header: dict[str, Any] = {}
    operations: list[Operation] = []
    for line in body.splitlines():
        key, value = (item := json.loads(line))["key"], item["value"]
        if key == "header":
            header = value
        elif key == "file":
            is_encoded = value.get("encoding") == "base64"
            content = base64.b64decode(value["content"]) if is_encoded else value["content"].encode()
            operations.append(Put(value["path"], repository.add_blob(content)))
        elif key == "lfsFile":
            operations.append(Put(value["path"], repository.add_blob(_pointer(request, value))))
        elif key == "deletedFile":
            repository.file(revision, value["path"])  # 404 where there is none
            operations.append(Remove(value["path"]))
        elif key == "deletedFolder":
            operations.append(Remove(value["path"].rstrip("/") + "/"))
        else:
            raise HubError(400, f"unknown operation {key!r}")
    return header, operations


def _pointer(request: Request, value: dict[str, Any]) -> bytes:
    store, sha256 = request.hub.store, value["oid"]
    if not store.has(sha256) and not materialize(request.hub, sha256):
        raise HubError(400, f"LFS pointer pointed to a file that does not exist: {value['path']}")
    return bytes(store.pointer(sha256))
