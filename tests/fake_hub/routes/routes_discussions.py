"""Answer pull requests: a ref `refs/pr/N` each, opened as a draft, published, and merged as one commit on main."""

from typing import Any

from tests.fake_hub.errors import HubError
from tests.fake_hub.exchange import Answer, Request, json_answer, route
from tests.fake_hub.repositories import Repository, now


@route("GET", "/api/{kind}/{id}/discussions")
def find(request: Request, kind: str, repo_id: str) -> Answer:
    found = request.repository(kind, repo_id).facts["discussions"]
    return json_answer({"discussions": found, "count": len(found), "start": 0})


@route("POST", "/api/{kind}/{id}/discussions")
def create(request: Request, kind: str, repo_id: str) -> Answer:
    asked, user = request.json(), request.writer()
    repository, is_pull_request = request.repository(kind, repo_id), bool(asked.get("pullRequest"))
    with request.hub.lock:
        base = repository.resolve("main")
        number = open_discussion(repository, user, asked["title"], is_pull_request=is_pull_request, base=base)
    url = f"{request.address(repository)}/discussions/{number}"
    return json_answer({"num": number, "url": url, "pullRequest": is_pull_request})


@route("GET", "/api/{kind}/{id}/discussions/{number}")
def describe(request: Request, kind: str, repo_id: str, number: str) -> Answer:
    repository = request.repository(kind, repo_id)
    facts = _find(repository, number)
    diff = repository.diff("refs/heads/main", f"refs/pr/{number}") if facts["isPullRequest"] else None
    more = {"events": [], "changes": {"base": "refs/heads/main"}, "filesWithConflicts": [], "diff": diff}
    return json_answer({**facts, **more})


@route("POST", "/api/{kind}/{id}/discussions/{number}/status")
def change_status(request: Request, kind: str, repo_id: str, number: str) -> Answer:
    asked, user = request.json(), request.writer()
    with request.hub.lock:
        _set_status(request.repository(kind, repo_id), number, asked["status"])
    return json_answer({"newStatus": _event("status-change", user, {"status": asked["status"]})})


@route("POST", "/api/{kind}/{id}/discussions/{number}/comment")
def comment(request: Request, kind: str, repo_id: str, number: str) -> Answer:
    asked, user = request.json(), request.writer()
    _find(request.repository(kind, repo_id), number)
    data = {"edited": False, "hidden": False, "latest": {"raw": asked["comment"]}}
    return json_answer({"newMessage": _event("comment", user, data)})


@route("POST", "/api/{kind}/{id}/discussions/{number}/merge")
def merge(request: Request, kind: str, repo_id: str, number: str) -> Answer:
    """
    One new commit on main that holds the request's changes. As on the Hub it is not the commit of the request, so what
    was verified there is compared by content. Refused while the request is a draft, closed or merged.
    """
    request.json()
    request.writer()
    repository = request.repository(kind, repo_id)
    with request.hub.lock:
        facts = _find(repository, number)
        if facts["status"] != "open" or not facts["isPullRequest"]:
            raise HubError(400, f"pull request {number} is {facts['status']}, only an open one can be merged")
        main, ours = repository.resolve("main"), repository.resolve(f"refs/pr/{number}")
        title, text = f"{facts['title']} (#{number})", f"- {facts['title']} ({ours})"
        repository.land("refs/heads/main", repository.merged_tree(main, ours), title, body=text, head=main)
        _set_status(repository, number, "merged")
    return json_answer({})


def open_discussion(repository: Repository, user: str, title: str, *, is_pull_request: bool, base: str) -> int:
    """Returns its number; the ref of a pull request begins at `base`."""
    facts = repository.facts
    number = len(facts["discussions"]) + 1
    facts["discussions"].append(
        {
            "num": number,
            "title": title,
            "status": "draft" if is_pull_request else "open",
            "author": {"name": user},
            "isPullRequest": is_pull_request,
            "createdAt": now(),
            "repo": {"name": repository.repo_id, "type": repository.repo_type},
        }
    )
    repository.facts = facts
    if is_pull_request:
        repository.create_ref(f"refs/pr/{number}", base)
    return number


def _find(repository: Repository, number: str) -> dict[str, Any]:
    for facts in repository.facts["discussions"]:
        if facts["num"] == int(number):
            return facts
    raise HubError(404, f"there is no discussion {number}")


def _set_status(repository: Repository, number: str, status: str) -> None:
    _find(repository, number)
    facts = repository.facts
    facts["discussions"][int(number) - 1]["status"] = status
    repository.facts = facts


def _event(kind: str, user: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"id": "1", "type": kind, "createdAt": now(), "author": {"name": user}, "data": data}
