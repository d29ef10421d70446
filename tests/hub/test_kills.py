"""Uploads that are killed at every request, and run again: one whole commit or none, and never a tagged half."""

import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hub.loopback import LoopbackHub

from transformers_llava.hub.staging import stage_publication

from .two_stages import shared_two_stages


# One process that has imported everything and forks for each try, so that a try takes a second.
DRIVER = """
import json, os, sys
from pathlib import Path
from huggingface_hub import HfApi
from transformers_llava.hub.manifest import read_manifest
from transformers_llava.hub.planning import plan_publication
from transformers_llava.hub.publishing import publish
from transformers_llava.hub.staging import Publication
folder = Path(sys.argv[1])
publication = Publication(folder, "builtin", read_manifest(folder), [], {}, [])
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        os.setsid()
        try:
            api = HfApi()
            plan = plan_publication(publication, asked["repo_id"], api)
            tag = publish(plan, api, pull_request=asked["pull_request"], check_download=False)
            print(json.dumps({"tag": tag}), flush=True)
        except BaseException as error:
            print(json.dumps({"error": repr(error)}), flush=True)
        os._exit(0)
    print(json.dumps({"pid": child}), flush=True)
"""


class Driver:
    """Starts publications in the forked process and kills them."""

    def __init__(self, hub: LoopbackHub, folder: Path):
        self.hub, env = hub, os.environ | hub.environment()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([sys.executable, "-c", DRIVER, str(folder)], env=env, text=True, **pipes)
        assert self.read() == "ready\n"

    def start(self, repo_id: str, pull_request: bool = False) -> int:
        self.process.stdin.write(json.dumps({"repo_id": repo_id, "pull_request": pull_request}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.read())["pid"]

    def finish(self, repo_id: str, pull_request: bool = False) -> dict[str, str]:
        self.start(repo_id, pull_request)
        return json.loads(self.read())

    def kill(self, pid: int) -> None:
        os.killpg(pid, signal.SIGKILL)

    def stalls(self, hub: LoopbackHub) -> bool:
        """Waits until a request stands still (True), or the publication has said how it ended (False)."""
        while not hub.num_stalled():
            if select.select([self.process.stdout], [], [], 0.02)[0]:
                return False
        return True

    def read(self) -> str:
        return self.process.stdout.readline()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "publication"
    checkpoint = shared_two_stages(tmp_path_factory.getbasetemp())
    return stage_publication(checkpoint, "loopback/x", folder, allow_incomplete=True).folder


@pytest.fixture
def driver(loopback_hub: LoopbackHub, folder: Path) -> Iterator[Driver]:
    driver = Driver(loopback_hub, folder)
    yield driver
    driver.close()


def forget_contents(hub: LoopbackHub) -> None:
    """Large files are kept once for all repositories; without them every try has to send its own."""
    for folder in hub.root.iterdir():
        if folder.name not in ("models", "datasets", "spaces"):
            shutil.rmtree(folder)
    shutil.rmtree(hub.caches / "xet", ignore_errors=True)  # where the client remembers what it has sent


def state(hub: LoopbackHub, repo_id: str) -> tuple[list[str], list[str]]:
    """Titles of the commits of `main` and the tags, as git has them."""
    repo = hub.repo(repo_id)
    if not repo.exists():
        return [], []
    return [commit.title for commit in repo.commits()], sorted(
        name.removeprefix("refs/tags/") for name in repo.refs("refs/tags/")
    )


@pytest.mark.parametrize(
    ("loopback_hub", "pull_request"), [("lfs", False), ("xet", True)], indirect=["loopback_hub"], ids=["lfs", "xet"]
)
def test_killed_at_every_request_and_run_again(loopback_hub: LoopbackHub, driver: Driver, pull_request: bool) -> None:
    tag = driver.finish("loopback/undisturbed", pull_request)["tag"]
    titles = state(loopback_hub, "loopback/undisturbed")[0]
    number, num_kills = 0, 0
    while True:
        forget_contents(loopback_hub)
        repo_id = f"loopback/killed-{number}"
        loopback_hub.fail_after(number, how="stall")
        pid = driver.start(repo_id, pull_request)
        if not driver.stalls(loopback_hub):
            assert json.loads(driver.read()) == {"tag": tag}
            break
        driver.kill(pid)
        loopback_hub.heal()
        num_kills += 1
        commits, tags = state(loopback_hub, repo_id)
        assert commits in ([], titles[1:], titles), f"after {number} requests"
        assert tags in ([], [tag])
        assert not tags or commits == titles
        assert driver.finish(repo_id, pull_request) == {"tag": tag}, f"after {number} requests"
        assert state(loopback_hub, repo_id) == (titles, [tag]), f"after {number} requests"
        number += 1
    assert num_kills >= 14


def test_killed_at_ten_random_moments(loopback_hub: LoopbackHub, driver: Driver) -> None:
    """By the clock, not by requests: also between two of them."""
    draw = random.Random(0)
    loopback_hub.delay(0.02)
    started = time.monotonic()
    tag = driver.finish("loopback/undisturbed")["tag"]
    longest = time.monotonic() - started
    for number in range(10):
        repo_id = f"loopback/random-{number}"
        pid = driver.start(repo_id)
        time.sleep(draw.uniform(0, longest))
        driver.kill(pid)
        commits, tags = state(loopback_hub, repo_id)
        assert len(commits) <= 2
        assert tags == [] or (tags == [tag] and len(commits) == 2)
        finished = driver.finish(repo_id)
        while "error" not in finished and "tag" not in finished:  # what the killed one had still said
            finished = json.loads(driver.read())
        assert finished == {"tag": tag}
        assert state(loopback_hub, repo_id)[1] == [tag]
