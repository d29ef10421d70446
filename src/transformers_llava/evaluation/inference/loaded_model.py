"""Load the model that is asked, with what its answers depend on."""

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from transformers_llava.artifacts.digests.file_digests import commit_of_snapshot
from transformers_llava.artifacts.digests.tensor_digests import (
    combined_tensor_digest,
    tensor_digest,
    tensor_digests,
)
from transformers_llava.artifacts.evaluation_files.predictions import text_digest
from transformers_llava.artifacts.snapshots import find_folder


_LIBRARIES = ("transformers-llava", "transformers", "torch", "tokenizers", "pillow")


class ModelLoadError(ValueError):
    """A checkpoint cannot be asked; says why."""


@dataclass(frozen=True)
class LoadedModel:
    """
    A model at work, and its identity.

    Args:
        model (`PreTrainedModel`): In evaluation mode, on its device.
        processor (`ProcessorMixin`): Its own, with a chat template.
        name (`str`): Hub id, or last part of the path.
        digest (`str`): Of its tensors, as `tensors_digest` of a publication's manifest.
        revision (`str` or `None`): Commit of the Hub.
        template_digest (`str`): Of the chat template.
        versions (`dict[str, str]`): Libraries that answers depend on, and the precision.
    """

    model: Any
    processor: Any
    name: str
    digest: str
    revision: str | None
    template_digest: str
    versions: dict[str, str]


def load_model(
    name: str, *, revision: str | None = None, device: str | None = None, dtype: str = "auto"
) -> LoadedModel:
    """
    Load a checkpoint of any layout.

    Args:
        name (`str`): Folder or Hub id.
        revision (`str`, *optional*): Of a Hub id.
        device (`str`, *optional*): Such as `cuda:0`; the GPU if there is one.
        dtype (`str`, *optional*, defaults to `"auto"`): As stored, or a type of torch.

    Raises:
        `FolderNotFoundError`: There is no such checkpoint.
        `ModelLoadError`: Its files hold no model that can be asked, or it has no chat template.
    """
    folder = find_folder(name, "the model", revision=revision, with_weights=True)
    try:
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype).eval()
        processor: Any = AutoProcessor.from_pretrained(folder)
    except Exception as error:  # whatever its files hold
        said = " ".join(str(error).split())[:500]
        raise ModelLoadError(
            f"{name!r} cannot be loaded ({type(error).__name__}: {said}), so nothing is asked. Name a checkpoint that "
            "`llava inspect model` can show."
        ) from error
    if not getattr(processor, "chat_template", None):
        raise ModelLoadError(
            f"{name!r} has no chat template, so it is not known how to ask it. Write one into its "
            "`chat_template.jinja`; `transformers_llava.chat_templates` has those of LLaVA."
        )
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return LoadedModel(
        model=model,
        processor=processor,
        name=folder.resolve().name if Path(name).is_dir() else name,
        digest=_digest(folder, model),
        revision=commit_of_snapshot(folder),
        template_digest=text_digest(str(processor.chat_template)),
        versions={name: importlib.metadata.version(name) for name in _LIBRARIES} | {"dtype": str(model.dtype)},
    )


def _digest(folder: Path, model: Any) -> str:
    """Of the safetensors files; of the weights in memory where there are none, as in originals."""
    digests = tensor_digests(folder) or {
        name: tensor_digest(tensor.detach().cpu()) for name, tensor in model.state_dict().items()
    }
    return combined_tensor_digest(digests)


__all__ = ["LoadedModel", "ModelLoadError", "load_model"]
