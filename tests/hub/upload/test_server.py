"""The loopback Hub against the unmodified client: what lands in git, what is refused, and what comes back."""

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, constants, hf_hub_download
from PIL import Image
from safetensors.torch import load_file
from tests.fake_hub.loopback import CHECKOUT, LoopbackHub, running_hub, what_is_missing
from tests.fake_hub.server import make_server

from tiny import make_model, make_processor


CONTENT = bytes(range(256)) * 5000  # 1.28 MB, and binary: a large file to the Hub
CARD = "---\nlicense: mit\n---\nA card.\n"
PRELUDE = """
import json, sys
from huggingface_hub import CommitOperationAdd as Add, CommitOperationDelete as Delete, HfApi, hf_hub_download
from huggingface_hub import snapshot_download
api, repo = HfApi(), sys.argv[1]
content = bytes(range(256)) * 5000
def answer(**values): print(json.dumps(values))
def refusal(action, *arguments, **named):
    try:
        action(*arguments, **named)
    except Exception as error:
        return [type(error).__name__, getattr(getattr(error, "response", None), "status_code", None)]
def upload(*operations, title="upload", **named):
    return api.create_commit(repo, operations, commit_message=title, **named)
"""
PUBLISH = """
api.create_repo(repo)
commit = upload(Add("model.safetensors", content), Add("README.md", sys.argv[2].encode()), Add("a/b.txt", b"small"))
api.create_tag(repo, tag="v-1", tag_message="the whole digest")
answer(oid=commit.oid)
"""
LOGITS = """
import torch, transformers_llava
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, AutoProcessor
model = AutoModelForImageTextToText.from_pretrained(repo, revision="v-1").eval()
processor = AutoProcessor.from_pretrained(repo, revision="v-1")
inputs = processor(images=Image.new("RGB", (40, 30), (200, 30, 40)), text="<image>\\nwhat?", return_tensors="pt")
with torch.no_grad():
    save_file({"logits": model(**inputs).logits}, sys.argv[2])
"""


# For claims about what no large file takes part in.
one_transport = pytest.mark.parametrize("hub", ["lfs"], indirect=True)


@pytest.fixture(scope="module", params=["lfs", "xet"])
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    if missing := what_is_missing(request.param):
        pytest.skip(missing)
    with running_hub(tmp_path_factory.mktemp("hub"), request.param) as hub:
        yield hub


@pytest.fixture
def repo_id(hub: LoopbackHub, request: pytest.FixtureRequest) -> Iterator[str]:
    """One for each test, after which the Hub is well again."""
    yield f"{hub.user}/{re.sub('[^a-z]+', '-', request.node.name)[:60].strip('-')}"
    hub.heal()


def ask(hub: LoopbackHub, source: str, *arguments: str, caches: Path | None = None) -> dict[str, Any]:
    """Runs the client and returns what it said."""
    done = hub.run(PRELUDE + source, *arguments, caches=caches)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}


def get(address: str, **headers: str) -> urllib.request.addinfourl:
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        urllib.request.Request(address, headers=headers)
    )


def test_an_upload_is_one_commit_and_comes_back_bit_for_bit(hub: LoopbackHub, repo_id: str, tmp_path: Path) -> None:
    oid = ask(hub, PUBLISH, repo_id, CARD)["oid"]
    repo = hub.repo(repo_id)
    assert [commit.title for commit in repo.commits()] == ["upload", "initial commit"]
    assert repo.refs() == {"refs/heads/main": oid, "refs/tags/v-1": oid}
    assert repo.tag_message("v-1") == "the whole digest"
    assert list(repo.files()) == [".gitattributes", "README.md", "a/b.txt", "model.safetensors"]
    pointer = repo.file("main", "model.safetensors").pointer
    assert pointer is not None
    assert pointer.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert repo.read("model.safetensors") == CONTENT

    source = """
folder = snapshot_download(repo, revision="v-1")
found = api.verify_repo_checksums(repo, revision="v-1")
answer(folder=folder, num_checked=found.checked_count, wrong=[*found.mismatches, *found.missing_paths])
"""
    said = ask(hub, source, repo_id, caches=tmp_path)
    assert (said["num_checked"], said["wrong"]) == (4, [])
    assert Path(said["folder"], "model.safetensors").read_bytes() == CONTENT
    assert Path(said["folder"], "README.md").read_text() == CARD
    asked = [name for name, _ in hub.requests()]
    assert any(name.startswith("PUT /_storage/") for name in asked) is (hub.transport == "lfs")
    assert ("POST /_xet/v1/shards" in asked) is (hub.transport == "xet")
    assert any(name.startswith("GET /_xet/xorbs/") for name in asked) is (hub.transport == "xet")


def test_a_model_loads_by_its_tag_with_the_same_logits(hub: LoopbackHub, repo_id: str, tmp_path: Path) -> None:
    model, processor = make_model().eval(), make_processor()
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    source = """
api.create_repo(repo)
api.upload_folder(repo_id=repo, folder_path=sys.argv[2])
api.create_tag(repo, tag="v-1")
again = api.upload_folder(repo_id=repo, folder_path=sys.argv[2])
answer(head=api.model_info(repo).sha, again=again.oid)
"""
    said = ask(hub, source, repo_id, str(tmp_path / "model"))
    assert said["again"] == said["head"] == hub.repo(repo_id).refs()["refs/tags/v-1"]  # the same again is no commit
    ask(hub, LOGITS, repo_id, str(tmp_path / "logits"), caches=tmp_path / "caches")
    image = Image.new("RGB", (40, 30), (200, 30, 40))
    with torch.no_grad():
        logits = model(**processor(images=image, text="<image>\nwhat?", return_tensors="pt")).logits
    assert torch.equal(load_file(tmp_path / "logits")["logits"], logits)


def test_a_commit_on_an_old_parent_is_refused_and_nothing_lands(hub: LoopbackHub, repo_id: str) -> None:
    source = """
api.create_repo(repo)
first = upload(Add("a.txt", b"1"))
second = upload(Add("a.txt", b"2"), parent_commit=first.oid)
late = refusal(upload, Add("a.txt", b"3"), Add("b.bin", content), parent_commit=first.oid)
answer(head=second.oid, late=late)
"""
    said = ask(hub, source, repo_id)
    assert said["late"] == ["HfHubHTTPError", 412]
    assert hub.repo(repo_id).refs() == {"refs/heads/main": said["head"]}
    assert hub.repo(repo_id).read("a.txt") == b"2"


@one_transport
def test_of_eight_writers_on_the_same_parent_one_wins(hub: LoopbackHub, repo_id: str) -> None:
    source = """
from concurrent.futures import ThreadPoolExecutor
api.create_repo(repo)
parent = api.model_info(repo).sha
with ThreadPoolExecutor(8) as pool:
    write = lambda n: refusal(upload, Add("who.txt", str(n).encode()), parent_commit=parent)
    answer(refusals=list(pool.map(write, range(8))))
"""
    refusals = ask(hub, source, repo_id)["refusals"]
    assert sorted(map(str, refusals)) == sorted(["None"] + [str(["HfHubHTTPError", 412])] * 7)
    assert hub.repo(repo_id).read("who.txt") == str(refusals.index(None)).encode()
    assert len(hub.repo(repo_id).commits()) == 2


@one_transport
def test_what_is_not_there_or_not_allowed_is_told_apart(hub: LoopbackHub, repo_id: str) -> None:
    source = """
api.create_repo(repo, private=True)
api.create_repo(repo, exist_ok=True)
api.create_tag(repo, tag="v-1")
reading, other_user = HfApi(token=sys.argv[2]), HfApi(token="hf_" + "x" * 34)
answer(
    twice=refusal(api.create_repo, repo),
    tag_twice=refusal(api.create_tag, repo, tag="v-1"),
    file=refusal(hf_hub_download, repo, "nothing.bin"),
    revision=refusal(hf_hub_download, repo, ".gitattributes", revision="nothing"),
    repository=refusal(hf_hub_download, repo + "-nothing", "config.json"),
    reads=reading.file_exists(repo, ".gitattributes"),
    writes=refusal(reading.create_tag, repo, tag="v-2"),
    other_user=refusal(other_user.model_info, repo),
    nameless=refusal(other_user.whoami),
    kept=api.whoami()["name"],
    refs=[ref.name for ref in api.list_repo_refs(repo).tags],
)
"""
    assert ask(hub, source, repo_id, hub.read_token) == {
        "twice": ["HfHubHTTPError", 409],
        "tag_twice": ["HfHubHTTPError", 409],
        "file": ["RemoteEntryNotFoundError", 404],
        "revision": ["RevisionNotFoundError", 404],
        "repository": ["RepositoryNotFoundError", 404],
        "reads": True,
        "writes": ["HfHubHTTPError", 403],
        "other_user": ["RepositoryNotFoundError", 404],
        "nameless": ["HfHubHTTPError", 401],
        "kept": "loopback",
        "refs": ["v-1"],
    }


@one_transport
def test_a_bad_card_never_lands(hub: LoopbackHub, repo_id: str) -> None:
    source = """
api.create_repo(repo)
bad = Add("README.md", b"---\\nlicense: mine\\n---\\n")
checked = refusal(upload, bad)
path = "---\\nlicense: mit\\nbase_model: /home/me/model\\n---\\n"
answer(checked=checked, path=refusal(upload, Add("README.md", path.encode())))
"""
    said = ask(hub, source, repo_id)
    assert said == {"checked": ["ValueError", None], "path": ["ValueError", None]}
    body = [
        {"key": "header", "value": {"summary": "around the check of the client"}},
        {"key": "file", "value": {"path": "README.md", "content": "---\nlicense: mine\n---\n"}},
    ]
    data = "\n".join(map(json.dumps, body)).encode()
    address = f"{hub.endpoint}/api/models/{repo_id}/commit/main"
    request = urllib.request.Request(address, data, {"Authorization": f"Bearer {hub.token}"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request)
    assert len(hub.repo(repo_id).commits()) == 1


def test_a_pull_request_is_published_merged_as_one_commit_and_only_once(hub: LoopbackHub, repo_id: str) -> None:
    source = """
api.create_repo(repo)
request = upload(Add("model.safetensors", content), title="weights", create_pr=True)
number = request.pr_num
before = api.model_info(repo).sha
there = api.file_exists(repo, "model.safetensors", revision=request.pr_revision)
draft = refusal(api.merge_pull_request, repo, number)
upload(Add("notes.txt", b"more"), title="more", revision=request.pr_revision)
api.change_discussion_status(repo, number, "open")
upload(Add("other.txt", b"meanwhile"), title="meanwhile")
api.merge_pull_request(repo, number)
found = api.get_discussion_details(repo, number)
again = refusal(api.merge_pull_request, repo, number)
titles = [each.title for each in api.get_repo_discussions(repo)]
answer(there=there, before=before, draft=draft, again=again, status=found.status, titles=titles)
"""
    said = ask(hub, source, repo_id)
    assert said["there"]
    assert said["draft"] == ["BadRequestError", 400]
    assert said["again"] == ["BadRequestError", 400]
    assert (said["status"], said["titles"]) == ("merged", ["weights"])
    repo = hub.repo(repo_id)
    commits = repo.commits()
    assert [commit.title for commit in commits] == ["weights (#1)", "meanwhile", "initial commit"]
    assert commits[-1].oid == said["before"]
    assert set(repo.files()) == {".gitattributes", "model.safetensors", "notes.txt", "other.txt"}


@one_transport
def test_requests_that_change_the_same_lines_conflict(hub: LoopbackHub, repo_id: str) -> None:
    source = """
api.create_repo(repo)
upload(Add("a.txt", b"0"))
number = upload(Add("a.txt", b"1"), create_pr=True).pr_num
upload(Add("a.txt", b"2"))
api.change_discussion_status(repo, number, "open")
answer(merge=refusal(api.merge_pull_request, repo, number))
"""
    assert ask(hub, source, repo_id)["merge"] == ["HfHubHTTPError", 409]
    assert hub.repo(repo_id).read("a.txt") == b"2"


@one_transport
def test_files_folders_branches_and_repositories_are_removed(hub: LoopbackHub, repo_id: str) -> None:
    source = """
api.create_repo(repo)
upload(Add("a/b/c.txt", b"1"), Add("a/d.txt", b"2"), Add("e.txt", b"3"), Add("keep.txt", b"4"))
api.create_branch(repo, branch="other")
upload(Delete("a/", is_folder=True), Delete("e.txt"), title="fewer")
left = api.list_repo_files(repo)
kept = api.list_repo_files(repo, revision="other")
names = [ref.name for ref in api.list_repo_refs(repo).branches]
api.delete_branch(repo, branch="other")
gone = refusal(api.list_repo_files, repo, revision="other")
api.delete_repo(repo)
answer(left=left, kept=len(kept), names=names, gone=gone, exists=api.repo_exists(repo))
"""
    assert ask(hub, source, repo_id) == {
        "left": [".gitattributes", "keep.txt"],
        "kept": 5,
        "names": ["main", "other"],
        "gone": ["RevisionNotFoundError", 404],
        "exists": False,
    }


def test_a_data_set_has_a_place_of_its_own(hub: LoopbackHub, repo_id: str) -> None:
    source = """
api.create_repo(repo, repo_type="dataset")
api.upload_file(repo_id=repo, repo_type="dataset", path_in_repo="a.parquet", path_or_fileobj=content)
path = hf_hub_download(repo, "a.parquet", repo_type="dataset")
info = api.dataset_info(repo, files_metadata=True)
same = open(path, "rb").read() == content
answer(model=api.repo_exists(repo), same=same, sizes=[each.size for each in info.siblings][1:])
"""
    assert ask(hub, source, repo_id) == {"model": False, "same": True, "sizes": [len(CONTENT)]}
    assert hub.repo(repo_id, "dataset").read("a.parquet") == CONTENT


def test_a_large_file_is_a_redirect_to_another_host_which_gives_parts(hub: LoopbackHub, repo_id: str) -> None:
    ask(hub, PUBLISH, repo_id, CARD)
    address = f"{hub.endpoint}/{repo_id}/resolve/v-1/model.safetensors"
    with get(address, Range="bytes=250-259") as answer:
        assert (answer.status, answer.read()) == (206, CONTENT[250:260])
        assert answer.headers["Content-Range"] == f"bytes 250-259/{len(CONTENT)}"
        assert answer.url.startswith("http://localhost:")
        storage = answer.url
    with pytest.raises(urllib.error.HTTPError, match="400"):  # a token that arrives there has leaked
        get(storage, Authorization=f"Bearer {hub.token}")
    with pytest.raises(urllib.error.HTTPError, match="416"):
        get(storage, Range="bytes=99999999-")


@one_transport
def test_long_listings_come_in_pages(hub: LoopbackHub, repo_id: str) -> None:
    ask(hub, PUBLISH, repo_id, CARD)
    address, paths = f"{hub.endpoint}/api/models/{repo_id}/tree/main?recursive=true&limit=2", []
    for _ in range(3):
        with get(address) as answer:
            paths += [each["path"] for each in json.load(answer)]
            link = re.search('<(.*)>; rel="next"', answer.headers["Link"] or "")
        address = link[1] if link else ""
    assert (paths, address) == ([".gitattributes", "README.md", "a", "a/b.txt", "model.safetensors"], "")


@one_transport
def test_git_clones_the_same_history(hub: LoopbackHub, repo_id: str, tmp_path: Path) -> None:
    oid = ask(hub, PUBLISH, repo_id, CARD)["oid"]
    environment = hub.environment() | {"GIT_LFS_SKIP_SMUDGE": "1", "PATH": str(Path(shutil.which("git") or "").parent)}
    command = ["git", "clone", "-q", f"{hub.endpoint}/{repo_id}", str(tmp_path / "clone")]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    command = ["git", "-C", str(tmp_path / "clone"), "rev-parse", "v-1^{commit}"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == oid
    assert (tmp_path / "clone" / "a" / "b.txt").read_text() == "small"
    assert "git-lfs" in (tmp_path / "clone" / "model.safetensors").read_text()


@pytest.mark.parametrize("how", ["error", "drop"])
def test_a_commit_request_that_fails_leaves_nothing(hub: LoopbackHub, repo_id: str, how: str) -> None:
    ask(hub, "api.create_repo(repo)", repo_id)
    hub.fail_after(0, how=how, only=f"/{repo_id}/commit/")
    broken = ask(hub, "answer(broken=refusal(upload, Add('a.bin', content)))", repo_id)["broken"]
    assert broken in (["HfHubHTTPError", 503], ["RemoteProtocolError", None])
    assert len(hub.repo(repo_id).commits()) == 1
    hub.heal()
    ask(hub, "upload(Add('a.bin', content))", repo_id)
    assert hub.repo(repo_id).read("a.bin") == CONTENT


def test_a_client_killed_when_its_commit_had_landed_finds_it_done(hub: LoopbackHub, repo_id: str) -> None:
    ask(hub, "api.create_repo(repo)", repo_id)
    hub.fail_after(0, how="stall", when="after", only=f"/{repo_id}/commit/")
    source = PRELUDE + "upload(Add('a.bin', content))"
    process = hub.start(*hub.python(source, repo_id))
    try:
        hub.wait_for_stall()
    finally:
        process.kill()
        process.communicate()
    hub.heal()
    head = hub.repo(repo_id).refs()["refs/heads/main"]
    assert len(hub.repo(repo_id).commits()) == 2
    assert ask(hub, "answer(oid=upload(Add('a.bin', content)).oid)", repo_id)["oid"] == head


def test_a_client_killed_before_its_large_file_was_whole_does_it_again(hub: LoopbackHub, repo_id: str) -> None:
    ask(hub, "api.create_repo(repo)", repo_id)
    hub.fail_after(0, how="stall", only="PUT /_storage/" if hub.transport == "lfs" else "/_xet/v1/shards")
    content = "sys.argv[1].encode() * 100_000"  # no other test has sent it
    process = hub.start(*hub.python(f"{PRELUDE}upload(Add('a.bin', {content}))", repo_id))
    try:
        hub.wait_for_stall()
    finally:
        process.kill()
        process.communicate()
    hub.heal()
    assert len(hub.repo(repo_id).commits()) == 1
    ask(hub, f"upload(Add('a.bin', {content}))", repo_id)
    assert hub.repo(repo_id).read("a.bin") == repo_id.encode() * 100_000


def test_two_processes_upload_at_once(hub: LoopbackHub, repo_id: str) -> None:
    source = PRELUDE + "api.create_repo(repo); upload(Add('a.bin', content), Add('b.bin', content[::-1]))"
    names = [f"{repo_id}-{number}" for number in range(2)]
    processes = [hub.start(*hub.python(source, name)) for name in names]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    for name in names:
        assert hub.repo(name).read("b.bin") == CONTENT[::-1]


@pytest.mark.parametrize("loopback_hub", ["lfs", "xet"], indirect=True)
def test_the_fixture_gives_a_hub_to_the_test_and_to_whatever_it_starts(loopback_hub: LoopbackHub) -> None:
    command = loopback_hub.python("from huggingface_hub import HfApi; print(HfApi().whoami()['name'])")
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "loopback"
    api = HfApi()
    api.create_repo("loopback/here")
    api.upload_file(repo_id="loopback/here", path_in_repo="a.bin", path_or_fileobj=CONTENT)
    path = Path(hf_hub_download("loopback/here", "a.bin"))
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(loopback_hub.caches)


def test_a_user_is_told_what_to_export_and_finds_it_again_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # tests/conftest.py has turned it on
    command = [sys.executable, "-m", "tests.fake_hub.server", "--root", str(tmp_path / "hub"), "--port", "0"]
    told = r"export HF_ENDPOINT=(http://127\.0\.0\.1:\d+) HF_TOKEN=(hf_\w+) HF_HUB_DISABLE_XET=1"
    for is_first in (True, False):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT)
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if line.startswith("export"))
            match = re.match(told, line)
            assert match
            api = HfApi(endpoint=match[1], token=match[2])
            if is_first:
                api.create_repo("loopback/kept")
            assert api.repo_exists("loopback/kept")
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=300)
        assert process.returncode == 0


def test_without_git_the_reason_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert what_is_missing() == "the loopback Hub keeps its repositories with `git`, which is not on PATH"


def test_only_this_machine_is_listened_to(tmp_path: Path) -> None:
    server, hub = make_server(tmp_path)
    server.server_close()
    assert server.server_address[0] == "127.0.0.1"
    assert re.fullmatch("hf_[A-Za-z0-9]{34}", hub.token)  # what looks for tokens in files would find it
