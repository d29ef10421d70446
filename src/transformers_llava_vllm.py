"""Register our model with vLLM, or say in one line why it cannot be.

A module of its own beside the package: vLLM loads the plugins of every installed package in each of its processes,
also where it serves other models with a transformers that is too old for ours. Importing the package would fail
there with a traceback in each process.
"""

import logging
import re
from importlib.metadata import version


logger = logging.getLogger("transformers_llava")
OLDEST = (5, 22)  # as in pyproject.toml


def register() -> None:
    """Called by vLLM; see the entry point `vllm.general_plugins`."""
    installed = version("transformers")
    numbers = re.match(r"(\d+)\.(\d+)", installed)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < OLDEST:
        logger.error(
            "open_llava is not registered with vLLM: transformers-llava needs transformers %d.%d or newer, and %s is "
            "installed. Other models are not concerned. Serve a checkpoint that `llava convert --to builtin` wrote, "
            "or use a vLLM that allows a newer transformers.",
            *OLDEST,
            installed,
        )
        return
    from transformers_llava.registration import register as register_classes

    register_classes()


__all__ = ["register"]
