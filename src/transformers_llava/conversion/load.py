"""Load a checkpoint of any kind as model and processor, also where `from_pretrained` has more than one folder."""

import tempfile
from pathlib import Path
from typing import Any

import torch

from transformers_llava.conversion.opened_checkpoint import OpenedCheckpoint, open_checkpoint
from transformers_llava.conversion.weights.lora import write_peft_adapter
from transformers_llava.modeling.modeling_open_llava import OpenLlavaForConditionalGeneration
from transformers_llava.modeling.processing_open_llava import OpenLlavaProcessor


Loaded = tuple[OpenLlavaForConditionalGeneration, OpenLlavaProcessor]


def load_lora_checkpoint(
    folder: str | Path, base: str | Path | None = None, *, merge: bool = True, **kwargs: Any
) -> Loaded:
    """
    An unmerged LoRA folder with its base.

    Args:
        folder (`str`): Holds `adapter_config.json`, `adapter_model.*`, `non_lora_trainables.bin` and `config.json`.
        base (`str`, *optional*): The language model, or the LLaVA, that it was trained from; the adapter's own
            configuration names it otherwise.
        merge (`bool`, *optional*, defaults to `True`): With `False` the model is a trainable `peft.PeftModel`.
        kwargs: See [`load_checkpoint`].

    Example:

    ```python
    model, processor = load_lora_checkpoint("llava-v1.5-7b-lora", base="lmsys/vicuna-7b-v1.5")
    ```
    """
    if merge:
        return load_checkpoint(folder, base=base, **kwargs)
    from peft import PeftModel

    options = {name: kwargs.pop(name) for name in ("vision_tower", "template") if name in kwargs}
    opened = open_checkpoint(folder, base=base, with_adapter=False, **options)
    model, processor = load_opened(opened, **kwargs)
    with tempfile.TemporaryDirectory() as adapter:
        write_peft_adapter(opened.folder, adapter)
        return PeftModel.from_pretrained(model, adapter, is_trainable=True), processor


def load_checkpoint(
    source: str | Path,
    *,
    base: str | Path | None = None,
    vision_tower: str | Path | None = None,
    template: str | None = None,
    dtype: torch.dtype | None = None,
    **kwargs: Any,
) -> Loaded:
    """
    Model and processor of a folder of any kind; see [`open_checkpoint`] for what decides the kind.

    Args:
        source (`str`): Folder or Hub id.
        base (`str`, *optional*): The language model of a LoRA, of a stage-1 projector (`mm_projector.bin` and
            `config.json`) or of the delta weights of the v0 generation; see [`open_checkpoint`].
        vision_tower, template: See [`open_checkpoint`].
        dtype (`torch.dtype`, *optional*): Of the model; the configuration's by default.
        kwargs: Passed to `from_pretrained`, such as `device_map`.
    """
    return load_opened(
        open_checkpoint(source, base=base, vision_tower=vision_tower, template=template), dtype, **kwargs
    )


def load_opened(opened: OpenedCheckpoint, dtype: torch.dtype | None = None, **kwargs: Any) -> Loaded:
    """The model and processor of an opened checkpoint."""
    tensors = {key: tensor.read() for key, tensor in opened.state.items()}
    model = OpenLlavaForConditionalGeneration.from_pretrained(
        None, config=opened.config, state_dict=tensors, dtype=dtype or opened.config.dtype or torch.float32, **kwargs
    )
    return model.eval(), opened.processor


__all__ = ["load_checkpoint", "load_lora_checkpoint", "load_opened"]
