"""Answer what a repository holds: trees, facts of paths, commits, and the refs that are made and removed."""

import json
import urllib.parse
from typing import Any

from tests.fake_hub.exchange import Answer, Request, json_answer, route
from tests.fake_hub.repositories import Entry, Repository


@route("GET", "/api/{kind}/{id}/tree/{revision}(?:/{path})?")
def tree(request: Request, kind: str, repo_id: str, revision: str, path: str | None = None) -> Answer:
    repository = request.repository(kind, repo_id)
    commit = repository.resolve(revision)
    entries = repository.entries(commit, (path or "").strip("/"), recursive=request.asks("recursive"))
    start, limit = int(request.query.get("cursor") or 0), int(request.query.get("limit") or 1000)
    page = [_facts(repository, entry) for entry in entries[start : start + limit]]
    if request.asks("expand"):
        for facts in page:
            last = repository.commits(commit, facts["path"])[0]
            facts["lastCommit"] = {"id": last.oid, "title": last.title, "date": last.date}
    headers = {}
    if start + limit < len(entries):
        query = urllib.parse.urlencode({**request.query, "cursor": start + limit})
        headers["Link"] = f'<{request.hub.endpoint}{request.path}?{query}>; rel="next"'
    return json_answer(page, headers=headers)


@route("POST", "/api/{kind}/{id}/paths-info/{revision}")
def paths_info(request: Request, kind: str, repo_id: str, revision: str) -> Answer:
    repository, body = request.repository(kind, repo_id), request.body()
    if body[:1] == b"{":
        paths = json.loads(body)["paths"]
    else:  # the client sends a form
        paths = [value for name, value in urllib.parse.parse_qsl(body.decode()) if name == "paths"]
    paths = [paths] if isinstance(paths, str) else paths
    found = {entry.path: entry for entry in repository.entries(revision)}
    return json_answer([_facts(repository, found[path]) for path in paths if path in found])


@route("GET", "/api/{kind}/{id}/commits/{revision}")
def commits(request: Request, kind: str, repo_id: str, revision: str) -> Answer:
    found = request.repository(kind, repo_id).commits(revision)
    facts = [
        {"id": c.oid, "title": c.title, "message": c.message, "date": c.date, "authors": [{"user": c.author}]}
        for c in found
    ]
    return json_answer(facts)


@route("GET", "/api/{kind}/{id}/refs")
def refs(request: Request, kind: str, repo_id: str) -> Answer:
    repository = request.repository(kind, repo_id)

    def under(prefix: str) -> list[dict[str, str]]:
        found = repository.refs(prefix.rstrip("/")).items()
        return [{"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": commit} for ref, commit in found]

    facts = {"branches": under("refs/heads/"), "tags": under("refs/tags/"), "converts": []}
    return json_answer(facts | ({"pullRequests": under("refs/pr/")} if request.asks("include_prs") else {}))


@route("POST", "/api/{kind}/{id}/tag/{revision}")
def create_tag(request: Request, kind: str, repo_id: str, revision: str) -> Answer:
    asked, _ = request.json(), request.writer()
    repository = request.repository(kind, repo_id)
    repository.create_ref(f"refs/tags/{asked['tag']}", repository.resolve(revision), asked.get("message"))
    return json_answer({})


@route("POST", "/api/{kind}/{id}/branch/{name}")
def create_branch(request: Request, kind: str, repo_id: str, name: str) -> Answer:
    asked, _ = request.json(), request.writer()
    repository = request.repository(kind, repo_id)
    repository.create_ref(f"refs/heads/{name}", repository.resolve(asked.get("startingPoint") or "main"))
    return json_answer({})


@route("DELETE", "/api/{kind}/{id}/tag/{name}")
def delete_tag(request: Request, kind: str, repo_id: str, name: str) -> Answer:
    request.writer()
    request.repository(kind, repo_id).delete_ref(f"refs/tags/{name}")
    return json_answer({})


@route("DELETE", "/api/{kind}/{id}/branch/{name}")
def delete_branch(request: Request, kind: str, repo_id: str, name: str) -> Answer:
    request.writer()
    request.repository(kind, repo_id).delete_ref(f"refs/heads/{name}")
    return json_answer({})


def _facts(repository: Repository, entry: Entry) -> dict[str, Any]:
    facts: dict[str, Any] = {"path": entry.path, "oid": entry.oid, "size": entry.size}
    facts["type"] = "directory" if entry.is_folder else "file"
    if pointer := entry.pointer:
        facts["lfs"] = {"oid": pointer.sha256, "size": pointer.size, "pointerSize": len(bytes(pointer))}
        if xet_hash := repository.store.xet_hash(pointer.sha256):
            facts["xetHash"] = xet_hash
    return facts
