"""Convert a checkpoint: open the source, write it all or nothing, and prove that nothing changed."""

import logging
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from transformers import GenerationConfig

from transformers_llava.conversion.conversion_report import REPORT_FILE, ConversionReport
from transformers_llava.conversion.export import (
    builtin_config,
    builtin_differences,
    builtin_state,
    builtin_type,
    save_builtin_processor,
)
from transformers_llava.conversion.export_files import rewrite_for_older_readers
from transformers_llava.conversion.export_report import export_fields, export_weights
from transformers_llava.conversion.opened_checkpoint import OpenedCheckpoint, open_checkpoint
from transformers_llava.conversion.processors.tokenizer_backends import SENTENCEPIECE_FILE
from transformers_llava.conversion.small_files import reading
from transformers_llava.conversion.weights.lazy_tensors import State, as_dtype, cast_state
from transformers_llava.conversion.weights.projector_file import projector_tensors
from transformers_llava.conversion.weights.shards import parse_size, write_state


logger = logging.getLogger(__name__)


def convert_checkpoint(
    source: str | Path,
    target: str | Path,
    *,
    to: Literal["open_llava", "builtin"] = "open_llava",
    base: str | Path | None = None,
    vision_tower: str | Path | None = None,
    template: str | None = None,
    dtype: str | torch.dtype | None = None,
    max_shard_size: int | str | None = None,
    check_parity: bool = False,
    with_code: bool = False,
) -> ConversionReport:
    """
    Converts a checkpoint of any kind to a folder that loads with one line.

    Tensors pass through one at a time, so memory stays near the largest tensor. The folder appears complete or not at
    all.

    Args:
        source (`str`): Folder or Hub id: an original checkpoint, a LoRA, a stage-1 projector, a delta, a llava-hf
            checkpoint or one of ours.
        target (`str`): Folder to make; it must be empty or absent.
        to (`str`, *optional*, defaults to `"open_llava"`): `"builtin"` writes `llava` or `llava_next`, which plain
            transformers, vLLM and others load without this package.
        base (`str`, *optional*): Language model that a LoRA, projector or delta belongs to.
        vision_tower (`str`, *optional*): In place of the configured one.
        template (`str`, *optional*): Conversation template by name, in place of the one its architecture chooses.
        dtype (`str` or `torch.dtype`, *optional*): Cast weights, for example to `"bfloat16"`; kept as they are by
            default.
        max_shard_size (`int` or `str`, *optional*, defaults to `"5GB"`)
        check_parity (`bool`, *optional*, defaults to `False`): Run images and prompts through source and target.
        with_code (`bool`, *optional*, defaults to `False`): Add the files by which `trust_remote_code=True` finds this
            package.

    Returns:
        [`ConversionReport`]: Every key and field accounted for; also saved in the folder.

    Raises:
        ValueError: If the source cannot be converted; nothing is left behind then.

    Example:

    ```python
    report = convert_checkpoint("liuhaotian/llava-v1.5-7b", "llava-v1.5-7b-open", check_parity=True)
    print(report)
    ```
    """
    if to not in ("open_llava", "builtin"):
        raise ValueError(f"to={to!r} is no target layout. Use 'open_llava' or 'builtin'.")
    if with_code and to == "builtin":
        raise ValueError(
            "with_code=True makes no sense with to='builtin': plain transformers loads that folder. Leave it out."
        )
    parse_size("5GB" if max_shard_size is None else max_shard_size)  # refuses before anything is read
    target = _checked_target(target)
    opened = open_checkpoint(source, base=base, vision_tower=vision_tower, template=template)
    logger.info("%s is a checkpoint of kind %r with %d tensors", source, opened.kind, len(opened.state))
    if to == "builtin":
        builtin_type(opened.config)  # refuses before anything is written
    state = cast_state(opened.state, as_dtype(dtype))
    report = ConversionReport(
        source=str(source),
        target=str(target),
        kind=opened.kind,
        to=to,
        config=opened.config_report,
        weights=list(opened.weights),
        notes=[*opened.notes, *(builtin_differences(opened.config) if to == "builtin" else [])],
    )
    with _all_or_nothing(target) as folder:
        if to == "builtin":
            exported = builtin_state(state, opened.config)
            report.export = export_fields(opened.config)
            report.weights = export_weights(opened.weights, exported)
            _write_builtin(opened, exported, folder, max_shard_size)
        else:
            _write_open_llava(opened, state, folder, max_shard_size, with_code)
        report.files = sorted([*(path.name for path in folder.iterdir()), REPORT_FILE])
        report.save(folder)
    logger.info("Wrote %s: %s", target, ", ".join(report.files))
    if check_parity:
        from transformers_llava.conversion.parity import check_parity as compare

        report.parity = compare(
            source, target, dtype=as_dtype(dtype), base=base, vision_tower=vision_tower, template=template
        )
        report.save(target)
    return report


def _write_open_llava(
    source: OpenedCheckpoint, state: State, folder: Path, max_shard_size: int | str | None, with_code: bool
) -> None:
    config = source.config
    config.architectures = ["OpenLlavaForConditionalGeneration"]
    config.dtype = _main_dtype(state)
    if config.vision_tower_name_or_path and Path(config.vision_tower_name_or_path).is_dir():
        config.vision_tower_name_or_path = (
            None  # the tower is inside now, and a folder of this machine is nobody else's
        )
    write_state(state, folder, max_shard_size=max_shard_size)
    config.save_pretrained(folder)
    source.processor.save_pretrained(folder)
    _generation_config(source).save_pretrained(folder)
    _copy_sentencepiece(source, folder)
    if with_code:
        from transformers_llava.modeling.remote_code import add_remote_code

        add_remote_code(folder)


def _write_builtin(source: OpenedCheckpoint, state: State, folder: Path, max_shard_size: int | str | None) -> None:
    write_state(state, folder, max_shard_size=max_shard_size)
    builtin_config(source.config, _main_dtype(state)).save_pretrained(folder)
    save_builtin_processor(source.processor, source.config, folder)
    _generation_config(source).save_pretrained(folder)
    rewrite_for_older_readers(folder)
    _copy_sentencepiece(source, folder)


def _copy_sentencepiece(source: OpenedCheckpoint, folder: Path) -> None:
    """`tokenizer.model` goes along: llama.cpp reads it, and without it takes a table with spare rows for a fault."""
    file = source.tokenizer_folder / SENTENCEPIECE_FILE
    if file.is_file():
        shutil.copyfile(file, folder / SENTENCEPIECE_FILE)


def _main_dtype(state: State) -> torch.dtype:
    """The type of most of the weights; a checkpoint may keep its tower more precise than the rest."""
    sizes: Counter[torch.dtype] = Counter()
    for tensor in state.values():
        sizes[tensor.dtype] += tensor.num_bytes
    return sizes.most_common(1)[0][0]


def _generation_config(source: OpenedCheckpoint) -> GenerationConfig:
    """
    Token ids, and sampling settings if the source samples.

    `max_length` of the original's files is left out: it would cut answers and warn on every call.
    """
    stored, text, tokenizer = source.generation_config, source.config.text_config, source.processor.tokenizer
    kept = {
        "bos_token_id": stored.get("bos_token_id", getattr(text, "bos_token_id", None)),
        "eos_token_id": stored.get("eos_token_id", getattr(text, "eos_token_id", None)),
        "pad_token_id": stored.get("pad_token_id", tokenizer.pad_token_id),
    }
    if kept["eos_token_id"] is None:
        kept["eos_token_id"] = tokenizer.eos_token_id
    if stored.get("do_sample"):
        names = ("do_sample", "temperature", "top_p", "top_k", "repetition_penalty")
        kept |= {name: stored[name] for name in names if stored.get(name) is not None}
    with reading(source.tokenizer_folder, "generation_config.json"):
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            ids = kept[name] if isinstance(kept[name], list) else [kept[name]]
            if not all(token is None or (isinstance(token, int) and not isinstance(token, bool)) for token in ids):
                raise ValueError(f"{name}={kept[name]!r} is no token id. Correct it.")
        generation = GenerationConfig(**kept)
        generation.validate()
    return generation


def _checked_target(target: str | Path) -> Path:
    """
    The absolute path of a folder to make, which is renamed into its place: not one that somebody stands in.

    Raises:
        ValueError: It is the current folder or one above it, or it is there and not empty.
    """
    path = Path(os.path.abspath(target))
    if Path.cwd().is_relative_to(path):
        raise ValueError(
            f"{str(target)!r} is the current folder or one above it, which cannot be replaced by a new one. Give the "
            "name of a folder to make, such as 'converted'."
        )
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} exists and is not an empty folder. Nothing was written; choose another target.")
    return path


@contextmanager
def _all_or_nothing(target: Path) -> Iterator[Path]:
    """A folder beside the target that takes its name at the end, and is gone if anything goes wrong before."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
    folder.mkdir()
    try:
        yield folder
        if target.exists():
            target.rmdir()
        folder.rename(target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def extract_projector(
    source: str | Path, target: str | Path, *, dtype: str | torch.dtype | None = None, **options: Any
) -> list[str]:
    """
    Writes the projector of a checkpoint to one file, which appears whole or not at all.

    Args:
        source (`str`): Folder or Hub id of any kind that [`convert_checkpoint`] reads.
        target (`str`): `*.bin`: under the original's names, which its stage 2 (`--pretrain_mm_mlp_adapter`) and this
            package read with a base; `*.safetensors`: under ours.
        dtype (`str` or `torch.dtype`, *optional*): Cast, as [`convert_checkpoint`] does.
        options: `base` and `vision_tower`, see [`open_checkpoint`].

    Returns:
        `list[str]`: Names of the tensors.
    """
    target = Path(target)
    if target.suffix not in (".bin", ".safetensors"):
        raise ValueError(
            f"{target} is neither a .bin (the original's names) nor a .safetensors file (ours), so the layout is "
            "unclear. Name the file accordingly."
        )
    if target.exists():
        raise ValueError(f"{target} exists. Nothing was written; choose another target.")
    opened = open_checkpoint(source, **options)
    state = cast_state(opened.state, as_dtype(dtype))
    tensors = projector_tensors(state, opened.config.projector_type, original_names=target.suffix == ".bin")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        if target.suffix == ".bin":
            torch.save(tensors, partial)
        else:
            save_file(tensors, partial, metadata={"format": "pt"})
        partial.rename(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return sorted(tensors)


__all__ = ["convert_checkpoint", "extract_projector"]
