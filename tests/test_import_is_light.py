"""`import transformers_llava` brings what loading a checkpoint needs, and nothing that only training does."""

import json
import subprocess
import sys


# transformers itself imports accelerate where it is installed (for the device hooks of `generate`), but no trainer.
HEAVY = ("trl", "datasets", "peft", "torchvision", "sklearn", "matplotlib", "transformers.trainer", "deepspeed")
PROGRAM = """
import json, sys
import transformers_llava
print(json.dumps([name for name in sys.modules]))
"""


def test_importing_the_package_imports_no_training_library() -> None:
    finished = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    modules = set(json.loads(finished.stdout.splitlines()[-1]))
    assert "transformers_llava.modeling.modeling_open_llava" in modules
    found = {name for name in modules for heavy in HEAVY if name == heavy or name.startswith(heavy + ".")}
    assert not found
    folders = {name.split(".")[1] for name in modules if name.startswith("transformers_llava.")}
    assert not folders & {"data", "training", "evaluation", "generation", "hub", "cli", "demo"}
