"""Run a loopback Hub on a folder, with a handle by which a test looks into it and makes it fail."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.fake_hub.faults import FaultPlan, How
from tests.fake_hub.repositories import Repository


CHECKOUT = Path(__file__).resolve().parents[2]
Transport = Literal["lfs", "xet"]
_OLDEST_GIT = (2, 38)


@dataclass(frozen=True)
class LoopbackHub:
    """
    A Hub that runs in a process of its own.

    Args:
        endpoint (`str`): its address; read at import by the client, so real clients run in subprocesses.
        user (`str`): the account of both tokens, and the default namespace.
        token (`str`), read_token (`str`): may write everywhere; may only read.
        root (`Path`): where it keeps everything; look into it through `repo`.
        transport: how the client's large files travel.
        caches (`Path`): the client's cache in the environment of subprocesses.
    """

    endpoint: str
    user: str
    token: str
    read_token: str
    root: Path
    transport: Transport
    caches: Path

    def repo(self, repo_id: str, repo_type: str = "model") -> Repository:
        """Refs, commits and files as git has them, without the client and without HTTP."""
        return Repository(self.root, repo_type, repo_id)

    def environment(self, caches: Path | None = None) -> dict[str, str]:
        """Variables of a process whose Hub this is; `caches` for one that must begin with nothing."""
        environment = {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": self.token,
            "HF_HOME": str(caches or self.caches),
            "HF_HUB_OFFLINE": "0",
            "TRANSFORMERS_OFFLINE": "0",
            "HF_HUB_ETAG_TIMEOUT": "600",  # seconds; after 10 of them a busy machine would be taken for a broken Hub
            "HF_HUB_DOWNLOAD_TIMEOUT": "600",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": "1" if self.transport == "lfs" else "0",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }
        inherited = {"HF_HUB_CACHE", "HF_XET_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN_PATH"} & set(os.environ)
        return environment | dict.fromkeys(inherited, "")  # empty means: below HF_HOME

    def run(
        self, source: str, *arguments: str, caches: Path | None = None, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Runs a piece of Python in a fresh process with this Hub; its output is in the result, failed or not."""
        return subprocess.run(
            self.python(source, *arguments),
            check=False,
            env=os.environ | self.environment(caches),
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    @staticmethod
    def python(source: str, *arguments: str) -> list[str]:
        return [sys.executable, "-c", source, *arguments]

    def start(self, *command: str, caches: Path | None = None) -> subprocess.Popen[str]:
        """Starts a command with this Hub, to be killed by the test; output and errors come together."""
        environment = os.environ | self.environment(caches)
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, env=environment, cwd=CHECKOUT, **pipes)

    # What goes wrong

    def fail_after(
        self,
        num_requests: int,
        *,
        how: How = "drop",
        when: Literal["before", "after"] = "before",
        only: str | None = None,
    ) -> None:
        """
        From now on so many requests work and none after them, until `heal`. See `FaultPlan`.

        To kill a client at an exact place: `fail_after(n, how="stall")`, `wait_for_stall()`, and kill it.
        """
        self.change_faults(FaultPlan(num_requests, how, when, only))

    def delay(self, seconds: float) -> None:
        """Every request takes so much longer, so that a kill at a random moment falls between two."""
        self.change_faults(FaultPlan(delay=seconds))

    def heal(self) -> None:
        self.change_faults(FaultPlan())

    def change_faults(self, plan: FaultPlan) -> None:
        self._control("faults", json.dumps(plan.__dict__).encode())

    def num_stalled(self) -> int:
        """How many requests stand still."""
        return self._control("stalled")

    def wait_for_stall(self, timeout: float = 600) -> None:
        """Returns when a request stands still. Raises `TimeoutError`."""
        deadline = time.monotonic() + timeout
        while not self.num_stalled():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no request stands still after {timeout} s; answered were {self.requests()}")
            time.sleep(0.01)

    def wait_until_idle(self, timeout: float = 600) -> None:
        """
        Returns when nobody is connected and so nothing is under way: what a killed client had asked for has been done.
        Connections are accepted in their order, so this one's question comes after all that it had opened.
        """
        deadline = time.monotonic() + timeout
        while self._control("connections") > 1:  # this one
            if time.monotonic() > deadline:
                raise TimeoutError(f"somebody is still connected after {timeout} s")
            time.sleep(0.01)

    def requests(self) -> list[tuple[str, int]]:
        """What was answered so far: `("POST /api/repos/create", 200)`, in order."""
        return [(name, status) for name, status in self._control("requests")]

    def _control(self, name: str, body: bytes | None = None) -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.endpoint}/_control/{name}", body, timeout=600) as answer:
            return json.load(answer)


def what_is_missing(transport: Transport = "lfs") -> str | None:
    """Why the Hub cannot run here, in words for a skipped test; nothing where it can."""
    if shutil.which("git") is None:
        return "the loopback Hub keeps its repositories with `git`, which is not on PATH"
    said = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout
    version = tuple(int(number) for number in re.findall(r"\d+", said)[:2])
    if version < _OLDEST_GIT:
        return f"the loopback Hub merges with `git merge-tree --write-tree` of git 2.38; here is {said.strip()}"
    if transport == "xet" and importlib.util.find_spec("hf_xet") is None:
        return "huggingface_hub came without `hf_xet` on this machine, so the client cannot use Xet"
    return None


@contextmanager
def running_hub(root: Path, transport: Transport = "lfs") -> Iterator[LoopbackHub]:
    """Starts a Hub in a process of its own and ends it; what it holds stays in `root`."""
    command = [sys.executable, "-m", "tests.fake_hub.server", "--json", "--port", "0", "--root", str(root / "server")]
    command += ["--xet"] if transport == "xet" else []
    environment = os.environ | {"HF_HOME": str(root / "server_cache")}  # hf_xet keeps logs there
    with (root / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the loopback Hub did not start: {(root / 'server.log').read_text()}")
            yield LoopbackHub(**json.loads(line), root=root / "server", transport=transport, caches=root / "hf_home")
        finally:
            process.terminate()
            process.wait(timeout=300)
            process.stdout.close()
