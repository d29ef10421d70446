"""Open a checkpoint folder of any kind under our names: configuration, lazy weights, processor, the account of both.

What a folder is, its files and configuration say: `adapter_config.json` makes it a LoRA, a lone `mm_projector.bin` a
stage-1 projector, full original weights together with a base a delta. No name of a folder is ever asked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from transformers_llava.artifacts.digests.file_digests import commit_of_snapshot
from transformers_llava.artifacts.limits import MAX_LAYERS, MAX_PROJECTOR_LAYERS
from transformers_llava.artifacts.snapshots import FolderNotFoundError, find_folder
from transformers_llava.conversion.configs.layouts import Layout, check_kinds, convert_config, layout_of, read_config
from transformers_llava.conversion.configs.pinpoints import parse_pinpoints
from transformers_llava.conversion.conversion_report import ConfigReport, KeyAccount
from transformers_llava.conversion.original_checkpoint import open_original
from transformers_llava.conversion.processors.processor_building import build_builtin_processor
from transformers_llava.conversion.small_files import (
    PROCESSOR_FILES,
    TOKENIZER_FILES,
    check_documents,
    optional_json,
    reading,
)
from transformers_llava.conversion.weights.delta import apply_delta
from transformers_llava.conversion.weights.key_check import empty_model, rename_and_check
from transformers_llava.conversion.weights.key_names import detect_mapping
from transformers_llava.conversion.weights.lazy_tensors import State
from transformers_llava.conversion.weights.lora import is_lora_folder, merge_lora
from transformers_llava.conversion.weights.lora_settings import read_lora_settings
from transformers_llava.conversion.weights.original import fit_embeddings, scale_as_original
from transformers_llava.conversion.weights.projector_file import is_projector_folder, join_projector
from transformers_llava.conversion.weights.tensor_files import open_state
from transformers_llava.modeling.configuration_open_llava import OpenLlavaConfig
from transformers_llava.modeling.processing_open_llava import OpenLlavaProcessor
from transformers_llava.modeling.vision.projector import projector_depth


Kind = Literal["original", "lora", "projector", "delta", "builtin", "open_llava"]


@dataclass(frozen=True)
class OpenedCheckpoint:
    """
    A checkpoint that is ready to be written or loaded.

    Attributes:
        folder (`Path`)
        kind (`str`): `original`, `lora`, `projector`, `delta`, `builtin` or `open_llava`.
        config ([`OpenLlavaConfig`])
        state (`State`): Its weights under our names, lazy.
        processor ([`OpenLlavaProcessor`])
        tokenizer_folder (`Path`): Where its vocabulary files lie: its own folder, or its base's.
        generation_config (`dict`): What stood in `generation_config.json`.
        config_report, weights, notes: The account.
    """

    folder: Path
    kind: Kind
    config: OpenLlavaConfig
    state: State
    processor: OpenLlavaProcessor
    tokenizer_folder: Path
    generation_config: dict[str, Any]
    config_report: ConfigReport
    weights: tuple[KeyAccount, ...]
    notes: tuple[str, ...] = ()


def open_checkpoint(
    source: str | Path,
    *,
    base: str | Path | None = None,
    vision_tower: str | Path | None = None,
    template: str | None = None,
    with_adapter: bool = True,
) -> OpenedCheckpoint:
    """
    Opens a checkpoint of any kind; nothing but small files is read.

    Args:
        source (`str`): Folder or Hub id.
        base (`str`, *optional*): Folder or Hub id of the language model that a LoRA, projector or delta belongs to.
        vision_tower (`str`, *optional*): In place of the tower that the configuration names.
        template (`str`, *optional*): Name of a conversation template, in place of the one that the architecture and
            the tokenizer choose.
        with_adapter (`bool`, *optional*, defaults to `True`): Whether to merge a LoRA folder's adapter.

    Raises:
        ValueError: If the folder is none of the kinds, if a base is missing or not wanted, or if weights are left
            over or missing.
    """
    folder = find_folder(source, "the checkpoint", with_weights=True)
    raw = read_config(folder)
    check_documents(folder)
    with reading(folder, "config.json"):
        check_kinds(raw)
        layout = layout_of(raw)
    if layout in ("builtin", "open_llava"):
        _refuse_parts(base, vision_tower, folder, layout)
        return _open_nested(folder, raw, layout, template)
    if layout is None:
        convert_config(raw)  # raises, and says why
    kind = _kind(folder, base)
    base_folder = None if kind == "original" else _base_folder(folder, kind, base)
    if base_folder is not None:
        check_documents(base_folder)
    return _open_original(folder, raw, kind, base_folder, vision_tower, template, with_adapter)


def _open_original(
    folder: Path,
    raw: dict[str, Any],
    kind: Kind,
    base: Path | None,
    vision_tower: str | Path | None,
    template: str | None,
    with_adapter: bool,
) -> OpenedCheckpoint:
    # LoRA and projector folders have no tokenizer: the original takes the base's. A delta has its own, with more
    # tokens.
    tokenizer_folder = base if kind in ("lora", "projector") else folder
    assert tokenizer_folder is not None
    original = open_original(raw, folder, tokenizer_folder=tokenizer_folder, vision_tower=_absolute(vision_tower))
    with reading(folder, "config.json"):
        config = _usable_config(original.config_fields)

    join: Callable[[State], State] | None = None
    if kind == "lora":
        join = partial(merge_lora, folder=folder, with_adapter=with_adapter)
    elif kind == "projector":
        join = partial(join_projector, folder=folder, num_tokens=original.facts.num_tokens)
    state = open_state(folder if kind == "original" else _given(base))
    if kind == "delta":
        state = apply_delta(state, open_state(folder))
    found = original.weights(state, config, join)
    state, accounts = rename_and_check(found.state, found.mapping, config, folder)
    state, scaled = scale_as_original(state, config)
    state, resized = fit_embeddings(state, config)
    return OpenedCheckpoint(
        folder=folder,
        kind=kind,
        config=config,
        state=state,
        processor=original.processor(config, template=template),
        tokenizer_folder=tokenizer_folder,
        generation_config=optional_json(tokenizer_folder / "generation_config.json"),
        config_report=original.config_report,
        weights=(*accounts, *(KeyAccount(key, None, reason) for key, reason in found.left_out.items())),
        notes=(*found.notes, *scaled, *resized),
    )


def _open_nested(folder: Path, raw: dict[str, Any], layout: Layout, template: str | None) -> OpenedCheckpoint:
    with reading(folder, "config.json"):
        config_dict, config_report = convert_config(raw, folder)
        config = _usable_config(config_dict)
    with reading(folder, *PROCESSOR_FILES, *TOKENIZER_FILES):
        if layout == "open_llava":
            processor = OpenLlavaProcessor.from_pretrained(folder)
        else:
            processor = build_builtin_processor(folder, config)
    if template is not None:
        from transformers_llava.chat_templates import load_chat_template

        processor.chat_template = load_chat_template(template)
    processor.tokenizer.padding_side = "left"
    state = open_state(folder)
    state, accounts = rename_and_check(state, detect_mapping(state, config.projector_type), config, folder)
    state, resized = fit_embeddings(state, config)
    return OpenedCheckpoint(
        folder=folder,
        kind=layout,
        config=config,
        state=state,
        processor=processor,
        tokenizer_folder=folder,
        generation_config=optional_json(folder / "generation_config.json"),
        config_report=config_report,
        weights=tuple(accounts),
        notes=tuple(resized),
    )


def _usable_config(config_dict: dict[str, Any]) -> OpenLlavaConfig:
    """Our configuration, of which a model of bearable size can be built; whatever it raises is said by `reading`."""
    for name in ("text_config", "vision_config"):
        layers = dict(config_dict.get(name) or {}).get("num_hidden_layers", 0)
        if isinstance(layers, int) and layers > MAX_LAYERS:
            raise ValueError(f"{name} has num_hidden_layers={layers}, more than the {MAX_LAYERS} that are built")
    if isinstance(pinpoints := config_dict.get("image_grid_pinpoints"), list):
        parse_pinpoints(pinpoints, 1)  # a list: refused if it is none of pairs
    config = OpenLlavaConfig.from_dict(dict(config_dict))
    if sum(projector_depth(config.projector_type)) > MAX_PROJECTOR_LAYERS:
        raise ValueError(f"{config.projector_type!r} has more than the {MAX_PROJECTOR_LAYERS} layers that are built")
    empty_model(config)
    return config


def _kind(folder: Path, base: str | Path | None) -> Kind:
    if is_lora_folder(folder):
        return "lora"
    if is_projector_folder(folder):
        return "projector"
    return "original" if base is None else "delta"


def _base_folder(folder: Path, kind: Kind, base: str | Path | None) -> Path:
    if base is not None:
        return find_folder(base, "the base", with_weights=True)
    named = read_lora_settings(folder).base if kind == "lora" else None
    is_download = commit_of_snapshot(folder) is not None
    for candidate in (folder / named, folder.resolve().parent / named) if named and not is_download else ():
        if (candidate / "config.json").is_file():
            return candidate
    reason = ""
    if named and is_download and (Path(named).is_absolute() or ".." in Path(named).parts):
        reason = f" (it names {named!r}: a folder of this machine, which a repository does not choose)"
    elif named:
        try:
            return find_folder(named, "the base that it names,", with_weights=True)
        except FolderNotFoundError as error:
            reason = f" ({error})"
    what = {"lora": "a LoRA adapter", "projector": "only a projector"}[kind]
    raise ValueError(
        f"{folder} holds {what}, which is no model without its language model"
        f"{reason}. Give the language model's folder with `--base` (`base=` in Python)."
    )


def _refuse_parts(base: str | Path | None, vision_tower: str | Path | None, folder: Path, layout: str) -> None:
    for flag, what, given in (("--base", "a base", base), ("--vision_tower", "a vision tower", vision_tower)):
        if given is not None:
            raise ValueError(
                f"{folder} is a complete {layout} checkpoint, and {what} ({given}) was given too. It would have no "
                f"effect. Leave `{flag}` out."
            )


def _given(base: Path | None) -> Path:
    assert base is not None
    return base


def _absolute(path: str | Path | None) -> str | Path | None:
    return Path(path).resolve() if path is not None and Path(path).is_dir() else path


__all__ = ["OpenedCheckpoint", "open_checkpoint"]
