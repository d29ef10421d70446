"""Merge an unmerged LoRA folder into its base.

The original's LoRA folders hold `adapter_config.json`, `adapter_model.*`, `config.json` and `non_lora_trainables.bin`
(what was trained beside the adapter: the projector). Merging adds `scale * B @ A` to each adapted weight when it is
read.
"""

import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file

from transformers_llava.conversion.weights.key_names import original_mapping
from transformers_llava.conversion.weights.lazy_tensors import LazyTensor, State
from transformers_llava.conversion.weights.lora_settings import CONFIG_FILE, read_lora_settings
from transformers_llava.conversion.weights.tensor_files import open_file


def is_lora_folder(folder: str | Path) -> bool:
    """Whether a folder holds an adapter; its files tell, not its name."""
    return (Path(folder) / CONFIG_FILE).is_file()


def merge_lora(state: State, folder: str | Path, *, with_adapter: bool = True) -> State:
    """
    Base weights with an adapter merged into them and the folder's other trained weights put in their place.

    Args:
        state (`State`): Base, under the original's names; not changed.
        folder (`str`): The LoRA folder.
        with_adapter (`bool`, *optional*, defaults to `True`): Without, only the other trained weights (the projector)
            are taken: the model that the adapter is to be put on.

    Returns:
        `State`: Lazy: each sum is computed when its tensor is read.

    Raises:
        ValueError: For an adapter that is not known to be a plain LoRA, that was trained on another base, or whose
            other trained weights (`non_lora_trainables.bin`) are missing.
    """
    folder = Path(folder)
    settings = read_lora_settings(folder)
    merged = dict(state)
    merged.update(_other_trainables(folder))
    if not with_adapter:
        return merged
    for name, (down, up) in _pairs(open_file(_adapter_file(folder))).items():
        key = f"{name}.weight"
        if key not in merged:
            raise ValueError(
                f"The adapter in {folder} changes {key!r}, which the base does not have; it was trained on another "
                f"model. Its own configuration names {settings.base!r}: give that with "
                "`--base`."
            )
        _check_shapes(merged[key], down, up, name, settings.is_transposed)
        merged[key] = _sum(merged[key], down, up, settings.scale(name, down.shape[0]), settings.is_transposed)
    return merged


def write_peft_adapter(folder: str | Path, target: str | Path) -> None:
    """
    An original adapter as one that peft puts on our model, to train it further.

    The original's target modules are bare names such as `q_proj`, which would also match a CLIP tower's; ours are
    tied to the language model, where the original's were.
    """
    folder, target = Path(folder), Path(target)
    settings = read_lora_settings(folder)
    mapping = original_mapping("mlp2x_gelu")
    tensors, modules = {}, set()
    for name, pair in _pairs(open_file(_adapter_file(folder))).items():
        ours = mapping.to_ours(name)
        assert ours is not None, name
        modules.add(ours)
        for part, tensor in zip("AB", pair, strict=True):
            tensors[f"base_model.model.{ours}.lora_{part}.weight"] = tensor.read().contiguous()
    names = sorted({re.escape(name.rsplit(".", 1)[1]) for name in modules})
    parts = sorted({name.split(".")[1] for name in modules})
    config = settings.fields | {
        "target_modules": rf"model\.({'|'.join(parts)})\..*\.({'|'.join(names)})",
        "base_model_name_or_path": None,
        "task_type": None,
    }
    target.mkdir(parents=True, exist_ok=True)
    (target / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file(tensors, target / "adapter_model.safetensors", metadata={"format": "pt"})


def _adapter_file(folder: Path) -> Path:
    for name in ("adapter_model.safetensors", "adapter_model.bin"):
        if (folder / name).is_file():
            return folder / name
    raise ValueError(
        f"{folder} has adapter_config.json but no adapter_model.safetensors or .bin. Fetch the missing file."
    )


def _pairs(adapter: State) -> dict[str, tuple[LazyTensor, LazyTensor]]:
    pairs: dict[str, tuple[LazyTensor, LazyTensor]] = {}
    for key in adapter:
        match = re.fullmatch(r"(?:base_model\.model\.)?(.+)\.lora_A(?:\.default)?\.weight", key)
        if match:
            up = key.replace(".lora_A.", ".lora_B.")
            if up not in adapter:
                raise ValueError(f"The adapter has {key!r} but not {up!r}; its file is incomplete. Fetch it again.")
            pairs[match[1]] = (adapter[key], adapter[up])
    read = 2 * len(pairs)
    if read != len(adapter):
        others = [key for key in adapter if ".lora_A." not in key and ".lora_B." not in key]
        raise ValueError(
            f"The adapter holds {len(adapter) - read} tensors besides LoRA pairs, such as {others[:3]}, which would "
            "be lost. Merge it with peft (`merge_and_unload`) and convert the result."
        )
    return pairs


def _other_trainables(folder: Path) -> State:
    """
    What was trained beside the adapter, under the original's names.

    The file's names come through peft: `base_model.model.model.mm_projector.0.weight` is
    `model.mm_projector.0.weight`.
    """
    file = folder / "non_lora_trainables.bin"
    if not file.is_file():
        raise ValueError(
            f"{folder} has an adapter but no non_lora_trainables.bin, so its trained projector is missing "
            "(intermediate checkpoints of the original lack it). Convert the final folder of the run."
        )
    state = {key.removeprefix("base_model."): value for key, value in open_file(file).items()}
    if any(key.startswith("model.model.") for key in state):
        state = {key.removeprefix("model."): value for key, value in state.items()}
    return state


def _check_shapes(base: LazyTensor, down: LazyTensor, up: LazyTensor, name: str, is_transposed: bool) -> None:
    shape = (up.shape[0], down.shape[1])
    if (shape[::-1] if is_transposed else shape) != base.shape:
        raise ValueError(
            f"The adapter changes {name!r} as a {shape} matrix, but it is {base.shape} in the base; it was trained on "
            "a model of another size. Give its own base with `--base`."
        )


def _sum(base: LazyTensor, down: LazyTensor, up: LazyTensor, scale: float, is_transposed: bool) -> LazyTensor:
    def add(weight: torch.Tensor) -> torch.Tensor:
        change = scale * (up.read().float() @ down.read().float())
        return (weight.float() + (change.T if is_transposed else change)).to(weight.dtype)

    return base.map(add)


__all__ = ["is_lora_folder", "merge_lora", "write_peft_adapter"]
