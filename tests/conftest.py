"""Share fixtures among all tests, and say where the recorded data of the original implementation lie."""

import os
import tempfile
from pathlib import Path

import pytest


os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read at import: else a missing name costs 20 s
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
_CACHE = tempfile.TemporaryDirectory()  # of parsed sources and token counts: tests start without and leave none
os.environ["TRANSFORMERS_LLAVA_CACHE"] = _CACHE.name

from cpu_seconds import CpuSeconds  # noqa: E402
from tiny import make_model, make_processor  # noqa: E402
from transformers_llava import OpenLlavaForConditionalGeneration, OpenLlavaProcessor  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cpu_seconds", action="store_true", help="show the CPU seconds of the tests that cost most")
    parser.addoption("--exhaustive", action="store_true", help="all repetitions of the tests that draw at random")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--cpu_seconds"):
        config.pluginmanager.register(CpuSeconds())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the modules that cost most, so that none of them is left for one process at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)  # stable: else as they were


@pytest.fixture(scope="session")
def exhaustive(pytestconfig: pytest.Config) -> bool:
    """Whether a test that draws at random makes all its repetitions (`make test-all`), or the first of them."""
    return bool(pytestconfig.getoption("--exhaustive"))


@pytest.fixture
def tiny_model() -> OpenLlavaForConditionalGeneration:
    return make_model()


@pytest.fixture
def tiny_processor() -> OpenLlavaProcessor:
    return make_processor()


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder with inputs and outputs recorded from the original implementation; the test skips where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "golden"
    folder = Path(os.environ.get("TRANSFORMERS_LLAVA_GOLDEN", default))
    if not folder.is_dir():
        pytest.skip(f"the recorded golden data is not at {folder}; set TRANSFORMERS_LLAVA_GOLDEN to where it is")
    return folder
