"""Time the start: import, loading from three layouts, and conversion.

    python -m benchmarks.starting --json benchmarks/results/cpu.json

Imports run in processes of their own. The checkpoint is an original LLaVA of 300 MB in fp32, converted to our layout
and to the built-in one. Files lie in the system's cache, and safetensors are mapped: the time of a load is that of its
configuration, of building the model and of naming tensors. Exit status 1 if a target is missed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration

from benchmarks.conversion_memory import write_checkpoint
from benchmarks.harness.command import main
from benchmarks.harness.results import Comparison, compared
from benchmarks.harness.timing import cpu_seconds, cpu_seconds_with_children, take_turns
from transformers_llava import OpenLlavaForConditionalGeneration
from transformers_llava.conversion.convert import convert_checkpoint


OURS = "import transformers_llava; transformers_llava.OpenLlavaForConditionalGeneration"
# transformers builds its table of weight conversions at the first load; importing our package does it, so both do.
BUILTIN = (
    "from transformers import LlavaForConditionalGeneration, LlavaProcessor, AutoModelForImageTextToText; "
    "from transformers.conversion_mapping import get_checkpoint_conversion_mapping as table; table('llava')"
)


def measure(repeats: int, *, size: str = "300MB") -> list[Comparison]:
    """The lines of this question; the size is an argument so that a test can make it small."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, num_bytes = write_checkpoint(folder, size, size, "safetensors", "float32")
        convert_checkpoint(folder / "original", folder / "native")
        convert_checkpoint(folder / "original", folder / "builtin", to="builtin")
        return [_imports(repeats), *_loads(folder, repeats), _conversion(folder, num_bytes, repeats)]


def _imports(repeats: int) -> Comparison:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def python(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True, env=environment, stderr=subprocess.DEVNULL)

    started = cpu_seconds_with_children()
    python("import torch, transformers")
    floor = cpu_seconds_with_children() - started
    return compared(
        take_turns(lambda: python(OURS), lambda: python(BUILTIN), repeats=repeats, clock=cpu_seconds_with_children),
        name="import",
        unit="s",
        ours_is="import transformers_llava, ready to load",
        other_is="transformers' own LLaVA: model, processor and Auto class, ready to load",
        checked="both end with the class of a LLaVA and the Auto class that loads it",
        floor=round(floor, 3),
        floor_is="import torch, transformers and nothing of them",
    )


def _loads(folder: Path, repeats: int) -> list[Comparison]:
    def load(loader: Any, layout: str) -> dict[str, torch.Tensor]:
        return loader.from_pretrained(folder / layout, dtype="auto").state_dict()

    def native() -> dict[str, torch.Tensor]:
        return load(AutoModelForImageTextToText, "native")

    def original() -> dict[str, torch.Tensor]:
        return load(OpenLlavaForConditionalGeneration, "original")

    def builtin() -> dict[str, torch.Tensor]:
        return load(LlavaForConditionalGeneration, "builtin")

    state = native()
    for other in (original(), builtin()):
        assert set(state) <= set(other)
        # Exported tables are padded to a multiple of 64 rows for the image's id, as llava-hf's are.
        assert all(torch.equal(tensor, other[name][: len(tensor)]) for name, tensor in state.items())
    floor = {"floor_is": "none: safetensors are mapped, and no weight is read until it is used"}
    same = "all tensors equal bit for bit"
    return [
        compared(
            take_turns(native, builtin, repeats=15 * repeats),
            name="load, our layout",
            unit="s",
            ours_is="AutoModelForImageTextToText on our layout",
            other_is="built-in class on its own layout",
            checked=same,
            **floor,
        ),
        compared(
            take_turns(original, builtin, repeats=15 * repeats),
            name="load, original layout on the fly",
            unit="s",
            ours_is="our class on the original 2023 layout, renamed while it is read",
            other_is="built-in class on its own layout, which somebody converted before",
            checked=same,
            at_least=0.9,
            **floor,
        ),
    ]


def _conversion(folder: Path, num_bytes: int, repeats: int) -> Comparison:
    numbers = iter(range(10**6))

    def convert() -> None:
        target = folder / f"converted{next(numbers)}"
        convert_checkpoint(folder / "original", target)
        shutil.rmtree(target)

    def through_memory() -> None:
        target = folder / f"saved{next(numbers)}"
        LlavaForConditionalGeneration.from_pretrained(folder / "builtin", dtype="auto").save_pretrained(target)
        AutoProcessor.from_pretrained(folder / "builtin").save_pretrained(target)
        shutil.rmtree(target)

    def copy() -> None:
        target = folder / f"copied{next(numbers)}"
        shutil.copytree(folder / "native", target)
        shutil.rmtree(target)

    copied = min(_seconds(copy) for _ in range(3))
    return compared(
        take_turns(convert, through_memory, repeats=repeats),
        amount=num_bytes / 1e6,
        unit="MB/s",
        name="conversion",
        ours_is="convert_checkpoint: original to our layout, tensor by tensor, every key accounted for",
        other_is="built-in model and processor loaded whole and saved, nothing renamed: less than a conversion",
        checked="the result loads with all tensors equal bit for bit (the line above)",
        at_least=0.3,
        floor=round(num_bytes / 1e6 / copied),
        floor_is="copying the folder",
    )


def _seconds(run: Callable[[], Any]) -> float:
    started = cpu_seconds()
    run()
    return cpu_seconds() - started


if __name__ == "__main__":
    sys.exit(main("starting", measure, repeats=4, clock="CPU time, of child processes too"))
