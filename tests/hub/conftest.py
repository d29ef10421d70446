"""
Fixtures of tests that publish: a real Hub on loopback.

By default large files travel by LFS. For Xet, or for both:

    @pytest.mark.parametrize("loopback_hub", ["lfs", "xet"], indirect=True)

The variables of `loopback_hub.environment()` are set while the test runs, so whatever it starts finds the Hub. The
client reads them when it is imported: in the test's own process pass `HfApi(endpoint=hub.endpoint, token=hub.token)`.
A fixture of wider scope uses `running_hub` of `tests.hub.loopback` itself.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hub.loopback import LoopbackHub, running_hub


@pytest.fixture
def loopback_hub(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LoopbackHub]:
    if shutil.which("git") is None:
        pytest.skip("the loopback Hub keeps its repositories with `git`, which is not on PATH")
    folder = tmp_path / "loopback_hub"
    folder.mkdir()
    with running_hub(folder, getattr(request, "param", "lfs")) as hub:
        for name, value in hub.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # tests/conftest.py has turned it on
        yield hub
