"""Answer for accounts, cards and whole repositories: who am I, validate, create, delete, describe, list."""

import shutil
from typing import Any

from tests.fake_hub import card_rules
from tests.fake_hub.errors import HubError
from tests.fake_hub.exchange import Answer, Request, json_answer, route
from tests.fake_hub.repositories import Entry, Repository, now


@route("GET", "/api/whoami-v2")
def who_am_i(request: Request) -> Answer:
    user = request.reader()
    role = "write" if request.bearer == request.hub.token else "read"
    access = {"type": "access_token", "accessToken": {"displayName": "loopback", "role": role}}
    return json_answer({"type": "user", "id": user, "name": user, "fullname": user, "orgs": [], "auth": access})


@route("POST", "/api/validate-yaml")
def validate_card(request: Request) -> Answer:
    asked = request.json()
    errors, warnings = card_rules.validate(asked["content"], asked.get("repoType") or "model")
    findings = {"errors": [{"message": e} for e in errors], "warnings": [{"message": w} for w in warnings]}
    return json_answer(findings, 400 if errors else 200)


@route("POST", "/api/repos/create")
def create(request: Request) -> Answer:
    asked, user = request.json(), request.writer()
    repository = _named(request, asked, user)
    url = request.address(repository)
    with request.hub.lock:
        if repository.exists():
            kind, repo_id = repository.repo_type, repository.repo_id
            return json_answer({"error": f"You already created this {kind} repo: {repo_id}", "url": url}, 409)
        repository.create(private=asked.get("visibility") == "private" or bool(asked.get("private")))
    return json_answer({"url": url, "name": repository.repo_id, "id": repository.repo_id})


@route("DELETE", "/api/repos/delete")
def delete(request: Request) -> Answer:
    asked, user = request.json(), request.writer()
    repository = _named(request, asked, user)
    with request.hub.lock:
        request.repository(f"{repository.repo_type}s", repository.repo_id)  # 404 where there is none
        shutil.rmtree(repository.path)
    return json_answer({})


@route("GET", "/api/{kind}/{id}")
@route("GET", "/api/{kind}/{id}/revision/{revision}")
def describe(request: Request, kind: str, repo_id: str, revision: str | None = None) -> Answer:
    repository = request.repository(kind, repo_id)
    commit = repository.resolve(revision or "main")
    files = [entry for entry in repository.entries(commit) if not entry.is_folder]
    card = _card(repository, files)
    facts: dict[str, Any] = {
        "_id": repo_id,
        "id": repo_id,
        "modelId": repo_id,
        "author": repo_id.split("/")[0],
        "sha": commit,
        "lastModified": repository.commits(commit)[0].date,
        "createdAt": repository.facts["created"],
        "private": repository.facts["private"],
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": card.get("tags") or [],
        "siblings": [_sibling(entry, with_blob=request.asks("blobs")) for entry in files],
    }
    if card:
        named = {name: card[name] for name in ("pipeline_tag", "library_name") if name in card}
        facts |= {"cardData": card, **named}
    return json_answer(facts)


@route("GET", "/api/{kind}")
def find(request: Request, kind: str) -> Answer:
    folders = sorted((request.hub.root / kind).glob("*/*.git"))
    ids = [f"{folder.parent.name}/{folder.stem}" for folder in folders]
    author = request.query.get("author")
    found = [repo_id for repo_id in ids if author in (None, repo_id.split("/")[0])]
    blank = {"private": False, "likes": 0, "downloads": 0, "tags": [], "createdAt": now()}
    return json_answer([{"id": repo_id, **blank} for repo_id in found])


def _named(request: Request, asked: dict[str, Any], user: str) -> Repository:
    name = asked["name"]
    if "/" in name or ".." in name or "--" in name:
        raise HubError(400, f"{name!r} is not a name of a repository")
    return Repository(request.hub.root, asked.get("type") or "model", f"{asked.get('organization') or user}/{name}")


def _card(repository: Repository, files: list[Entry]) -> dict[str, Any]:
    oids = [entry.oid for entry in files if entry.path == "README.md"]
    return card_rules.front_matter(repository.read_blob(oids[0]).decode()) if oids else {}


def _sibling(entry: Entry, *, with_blob: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {"rfilename": entry.path}
    if with_blob:
        facts |= {"size": entry.size, "blobId": entry.oid}
        if pointer := entry.pointer:
            facts["lfs"] = {"sha256": pointer.sha256, "size": pointer.size, "pointerSize": len(bytes(pointer))}
    return facts
