"""Send bytes of files, the large ones through a redirect to storage, and serve `git clone` over smart HTTP."""

import gzip
import os
import subprocess

from tests.fake_hub.errors import no_file
from tests.fake_hub.exchange import Answer, Request, route
from tests.fake_hub.routes.routes_uploading import refuse_token


@route("GET|HEAD", "/{kind_or_not}{id}/resolve/{revision}/{path}")
def resolve(request: Request, kind: str | None, repo_id: str, revision: str, path: str) -> Answer:
    repository = request.repository(kind, repo_id)
    commit = repository.resolve(revision)
    entry = repository.file(commit, path)
    headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
    if entry.pointer is None:
        return Answer(repository.read_blob(entry.oid), headers=headers | {"ETag": f'"{entry.oid}"'}, ranged=True)
    sha256 = entry.pointer.sha256
    headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(entry.size), "ETag": f'"{sha256}"'}
    if xet_hash := repository.store.xet_hash(sha256):
        address = f"{request.hub.endpoint}/api/{repository.repo_type}s/{repo_id}/xet-read-token/{commit}"
        headers |= {"X-Xet-Hash": xet_hash, "Link": f'<{address}>; rel="xet-auth"'}
    return Answer(status=302, headers=headers | {"Location": f"{request.hub.storage_endpoint}/_storage/{sha256}"})


@route("GET|HEAD", "/_storage/{sha256}")
def get_object(request: Request, sha256: str) -> Answer:
    refuse_token(request)
    if not request.hub.store.has(sha256):
        raise no_file(sha256)
    headers = {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"}
    return Answer(headers=headers, file=request.hub.store.path(sha256), ranged=True)


@route("GET|POST", r"/{kind_or_not}{id}(?:\.git)?/(?P<service>info/refs|git-upload-pack)")
def clone(request: Request, kind: str | None, repo_id: str, service: str) -> Answer:
    """Git's own server program answers; only reading is offered."""
    repository, body = request.repository(kind, repo_id), request.body()
    if request.headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    variables = {
        "GIT_PROJECT_ROOT": str(repository.path.parent),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": f"/{repository.path.name}/{service}",
        "REQUEST_METHOD": request.method,
        "QUERY_STRING": request.query_text,
        "CONTENT_TYPE": request.headers.get("Content-Type") or "",
        "CONTENT_LENGTH": str(len(body)),
        "GIT_PROTOCOL": request.headers.get("Git-Protocol") or "",
    }
    command = ["git", "http-backend"]
    done = subprocess.run(command, input=body, capture_output=True, env=os.environ | variables, check=True)
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    return Answer(content, int(headers.pop("Status", "200 OK").split()[0]), headers)
