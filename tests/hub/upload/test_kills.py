"""Uploads that are killed at every request, and run again: one whole commit or none, and never a tagged half."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fake_hub.loopback import LoopbackHub, running_hub, what_is_missing
from tests.hub.two_stages import shared_two_stages

from transformers_llava.hub.publication.stage import stage_publication


pytestmark = pytest.mark.slow

# One process that has imported everything and forks for each try, so that a try takes a second. Every line that it
# or a child of it says has the number of the try: what a killed child has still said is nobody else's answer.
DRIVER = """
import json, os, sys
from pathlib import Path
from huggingface_hub import HfApi
from transformers_llava.hub.publication.manifest import read_manifest
from transformers_llava.hub.upload.plan import plan_publication
from transformers_llava.hub.upload.publish import publish
from transformers_llava.hub.publication.stage import Publication
folder = Path(sys.argv[1])
publication = Publication(folder, "builtin", read_manifest(folder), [], {}, [])
def say(**facts):
    os.write(1, (json.dumps(facts) + chr(10)).encode())  # one write of a short line: whole, or not at all
say(number=0)
for line in sys.stdin:
    asked = json.loads(line)
    if os.fork() == 0:
        os.setsid()
        say(number=asked["number"], pid=os.getpid())
        try:
            api = HfApi()
            plan = plan_publication(publication, asked["repo_id"], api)
            tag = publish(plan, api, pull_request=asked["pull_request"], check_download=False)
            say(number=asked["number"], result={"tag": tag})
        except BaseException as error:
            say(number=asked["number"], result={"error": repr(error)[:1000]})
        os._exit(0)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:  # who has ended
            pass
    except ChildProcessError:
        pass
"""


class Driver:
    """Starts publications in the forked process and kills them."""

    def __init__(self, hub: LoopbackHub, folder: Path):
        self.hub, env = hub, os.environ | hub.environment()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([sys.executable, "-c", DRIVER, str(folder)], env=env, text=True, **pipes)
        self.said: dict[int, dict[str, Any]] = {}  # number of a try -> pid, and how it ended
        self.heard = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()
        self.number = 0
        self._wait(lambda: 0 in self.said)

    def start(self, repo_id: str, pull_request: bool = False) -> int:
        """The number of the try, which is under way then."""
        self.number += 1
        asked = {"number": self.number, "repo_id": repo_id, "pull_request": pull_request}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        self._wait(lambda: "pid" in self.said.get(self.number, {}))
        return self.number

    def result(self, number: int) -> dict[str, str]:
        """How a try ended that nobody has killed."""
        self._wait(lambda: "result" in self.said[number])
        return self.said[number]["result"]

    def finish(self, repo_id: str, pull_request: bool = False) -> dict[str, str]:
        return self.result(self.start(repo_id, pull_request))

    def kill(self, number: int) -> None:
        """Ends a try wherever it is; the Hub may still be busy with what it has sent."""
        with contextlib.suppress(ProcessLookupError):  # it had ended
            os.killpg(self.said[number]["pid"], signal.SIGKILL)

    def stalls(self, number: int) -> bool:
        """Waits until a request of it stands still (True), or it has said how it ended (False)."""
        while not self.hub.num_stalled():
            with self.heard:
                if self.heard.wait_for(lambda: "result" in self.said[number], timeout=0.02):
                    return False
        return True

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=900)

    def _listen(self) -> None:
        for line in self.process.stdout:
            facts = json.loads(line)
            with self.heard:
                self.said.setdefault(facts.pop("number"), {}).update(facts)
                self.heard.notify_all()

    def _wait(self, is_true: Callable[[], bool]) -> None:
        with self.heard:
            assert self.heard.wait_for(is_true, timeout=900), self.said


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "publication"
    checkpoint = shared_two_stages(tmp_path_factory.getbasetemp())
    return stage_publication(checkpoint, "loopback/x", folder, allow_incomplete=True).folder


@pytest.fixture(scope="module", params=["lfs", "xet"])
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    if missing := what_is_missing(request.param):
        pytest.skip(missing)
    with running_hub(tmp_path_factory.mktemp("kills"), request.param) as hub:
        yield hub


@pytest.fixture(scope="module")
def driver(hub: LoopbackHub, folder: Path) -> Iterator[Driver]:
    driver = Driver(hub, folder)
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
    ("hub", "pull_request"), [("lfs", False), ("xet", True)], indirect=["hub"], ids=["lfs", "xet"]
)
def test_killed_at_every_request_and_run_again(hub: LoopbackHub, driver: Driver, pull_request: bool) -> None:
    tag = driver.finish("loopback/undisturbed", pull_request)["tag"]
    titles = state(hub, "loopback/undisturbed")[0]
    number, num_kills = 0, 0
    while True:
        forget_contents(hub)
        repo_id = f"loopback/killed-{number}"
        hub.fail_after(number, how="stall")
        attempt = driver.start(repo_id, pull_request)
        if not driver.stalls(attempt):
            assert driver.result(attempt) == {"tag": tag}
            hub.heal()
            break
        driver.kill(attempt)
        hub.heal()
        hub.wait_until_idle()
        num_kills += 1
        commits, tags = state(hub, repo_id)
        assert commits in ([], titles[1:], titles), f"after {number} requests"
        assert tags in ([], [tag])
        assert not tags or commits == titles
        assert driver.finish(repo_id, pull_request) == {"tag": tag}, f"after {number} requests"
        assert state(hub, repo_id) == (titles, [tag]), f"after {number} requests"
        number += 1
    assert num_kills >= 14


@pytest.mark.parametrize("hub", ["lfs"], indirect=True)
def test_killed_at_ten_random_moments(hub: LoopbackHub, driver: Driver) -> None:
    """By the clock, not by requests: also between two of them."""
    draw = random.Random(0)
    hub.delay(0.02)
    started = time.monotonic()
    tag = driver.finish("loopback/slowed")["tag"]
    longest = time.monotonic() - started
    for number in range(10):
        repo_id = f"loopback/random-{number}"
        attempt = driver.start(repo_id)
        if number == 0:
            driver.result(attempt)  # one that has just told its end, which is nobody else's answer
        else:
            time.sleep(draw.uniform(0, longest))
        driver.kill(attempt)
        hub.wait_until_idle()  # else what it has sent would come between the next plan and its commit
        commits, tags = state(hub, repo_id)
        assert len(commits) <= 2
        assert tags == [] or (tags == [tag] and len(commits) == 2)
        assert driver.finish(repo_id) == {"tag": tag}
        assert state(hub, repo_id)[1] == [tag]
    hub.heal()
