"""
Share fixtures of tests that publish: a real Hub on loopback.

By default large files travel by LFS. For Xet, or for both:

    @pytest.mark.parametrize("loopback_hub", ["lfs", "xet"], indirect=True)

The variables of `loopback_hub.environment()` are set while the test runs, so whatever it starts finds the Hub. The
client reads them when it is imported, so in the test's own process its constants are set too: nothing that a test does
can reach the real Hub. Objects made before (`HfApi`) keep their endpoint; a claim about the client as people have it
belongs into a process of its own (`hub.run`). A fixture of wider scope uses `running_hub`
of `tests.fake_hub.loopback`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from tests.fake_hub.loopback import LoopbackHub, running_hub, what_is_missing


@pytest.hookimpl(tryfirst=True)  # before `-m hub` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of this folder that ask for a Hub."""
    for item in items:
        if item.path.parent == Path(__file__).parent and {"hub", "loopback_hub"} & set(item.fixturenames):
            item.add_marker("hub")


def _constants(hub: LoopbackHub) -> dict[str, str | bool | int]:
    """What `huggingface_hub` would have, had it been imported with the variables of this Hub."""
    return {
        "HF_HUB_OFFLINE": False,  # tests/conftest.py has turned it on
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(hub.caches / "hub"),
        "HF_HUB_ETAG_TIMEOUT": 600,
        "HF_HUB_DOWNLOAD_TIMEOUT": 600,
        "HF_HUB_DISABLE_XET": hub.transport == "lfs",
    }


@pytest.fixture
def loopback_hub(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LoopbackHub]:
    transport = getattr(request, "param", "lfs")
    if missing := what_is_missing(transport):
        pytest.skip(missing)
    folder = tmp_path / "loopback_hub"
    folder.mkdir()
    with running_hub(folder, transport) as hub:
        for name, value in hub.environment().items():
            monkeypatch.setenv(name, value)
        for name, value in _constants(hub).items():
            monkeypatch.setattr(constants, name, value)
        yield hub
