"""vLLM loads our plugin in each of its processes, also beside a transformers that is too old for us."""

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
import logging, sys
logging.basicConfig(format="%(levelname)s %(message)s")
import transformers_llava_vllm
transformers_llava_vllm.register()
print("transformers_llava" in sys.modules)
"""


@pytest.mark.parametrize("number", ["5.19.0", "4.57.6"])
def test_an_old_transformers_costs_one_readable_line(number: str, tmp_path: Path) -> None:
    (tmp_path / "transformers").mkdir()
    (tmp_path / "transformers" / "__init__.py").write_text("")
    metadata = tmp_path / f"transformers-{number}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: transformers\nVersion: {number}\n")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "src")])}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, timeout=900, check=True
    )
    assert done.stdout == "False\n"
    (line,) = done.stderr.splitlines()
    assert line.startswith("ERROR open_llava is not registered with vLLM")
    assert "5.22 or newer" in line
    assert number in line


def test_the_entry_point_is_shipped_and_registers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    module, _, function = project["project"]["entry-points"]["vllm.general_plugins"]["open_llava"].partition(":")
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"][f"src/{module}.py"] == f"{module}.py"
    plugin = importlib.import_module(module)
    getattr(plugin, function)()
    needed = next(line for line in project["project"]["dependencies"] if line.startswith("transformers>="))
    assert re.match(r"transformers>=(\d+)\.(\d+),", needed).groups() == tuple(map(str, plugin.OLDEST))
