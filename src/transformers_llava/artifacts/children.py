"""Start Python such that it imports installed code alone, whatever lies in the folder that it is started in."""

import os
import sys
from collections.abc import Mapping


def python_command(module: str) -> list[str]:
    """The words that run a module without the current folder at the front of its search path."""
    return [sys.executable, "-P", "-m", module]


def with_installed_code_only(environment: Mapping[str, str]) -> dict[str, str]:
    """
    The same environment, such that Python, and whatever it starts in turn, imports nothing from its current folder.

    `python -m` puts that folder first otherwise, and with it any `yaml.py` that lies beside the data. An empty or
    relative entry of `PYTHONPATH` would bring it back, so the entries are written out as they are meant here and now.
    """
    safe = {**environment, "PYTHONSAFEPATH": "1"}
    entries = [os.path.abspath(entry) for entry in safe.pop("PYTHONPATH", "").split(os.pathsep) if entry]
    return {**safe, "PYTHONPATH": os.pathsep.join(entries)} if entries else safe


__all__ = ["python_command", "with_installed_code_only"]
