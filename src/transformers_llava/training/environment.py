"""Describe the environment of a run: packages, hardware, memory."""

import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, distributions, version
from typing import Any

import torch


_PACKAGES = (
    "transformers-llava",
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "peft",
    "datasets",
    "tokenizers",
    "safetensors",
    "huggingface_hub",
    "numpy",
    "pillow",
)


def package_versions() -> dict[str, str]:
    """Versions of Python and of every package that has a part in the result."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def installed_packages() -> dict[str, str]:
    """Name and version of every package of this environment; not where they came from."""
    found = {
        (package.metadata["Name"] or "").lower().replace("_", "-"): package.version for package in distributions()
    }
    return {name: found[name] for name in sorted(found) if name}


def hardware(world_size: int, backend: str) -> dict[str, Any]:
    """What kind of machine it was; not which."""
    has_gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if has_gpu else "cpu",
        "world_size": world_size,
        "backend": backend,
        "cpu_threads": torch.get_num_threads(),
        "architecture": platform.machine(),
    }


def peak_memory_gb() -> float:
    """Most memory this process held so far, in 10^9 bytes: of the GPU where there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss counts kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


__all__ = ["hardware", "installed_packages", "package_versions", "peak_memory_gb"]
