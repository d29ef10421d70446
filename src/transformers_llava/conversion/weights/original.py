"""What the loader is about to read of an original checkpoint, made to what the original's builder makes of it.

Names are the business of the loading rules. What they cannot say is done here, before the loader runs: whose tower
weights count, how many rows the embeddings have, and which keys nothing ever reads.
"""

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from transformers_llava.conversion.configs.layouts import layout_of, read_config
from transformers_llava.conversion.configs.tower_lookup import TowerNotFoundError, counts_tower_of_checkpoint
from transformers_llava.conversion.weights.gemma_scale import scaled_weights
from transformers_llava.conversion.weights.key_names import WeightMapping, detect_mapping, drop_reason
from transformers_llava.conversion.weights.lazy_tensors import mean_row
from transformers_llava.conversion.weights.tensor_files import open_files
from transformers_llava.conversion.weights.tower_weights import tower_files, tower_keys
from transformers_llava.modeling.loading.weight_files import lazy_state_dict


logger = logging.getLogger(__name__)


def adapt_original_state_dict(
    model: PreTrainedModel, state_dict: dict[str, Any] | None, checkpoint_files: list[str] | None
) -> dict[str, Any] | None:
    """
    All tensors that the loader shall read, lazily; or what was given, if the files can be read as they are.

    Contract: one of `OpenLlavaPreTrainedModel.state_dict_adapters`.

    Args:
        model (`PreTrainedModel`): The model that is being loaded.
        state_dict (`dict`, *optional*): Tensors given by the caller; used as they are.
        checkpoint_files (`list[str]`, *optional*): Files that the loader is about to read.
    """
    if state_dict is not None or not checkpoint_files:
        return state_dict
    keys = open_files(checkpoint_files)  # a .bin that is more than tensors is refused here, with an explanation
    folder = Path(checkpoint_files[0]).parent
    if not (folder / "config.json").is_file():
        return state_dict
    raw = read_config(folder)
    layout = layout_of(raw)
    is_our_export = layout == "builtin" and bool(raw.get("open_llava"))
    if layout != "original" and not is_our_export:
        return state_dict
    mapping = detect_mapping(keys, model.config.projector_type)
    state = {key: value for key, value in lazy_state_dict(checkpoint_files).items() if drop_reason(key) is None}
    if not is_our_export:
        _choose_tower(state, model, raw)
        _name_residual_blocks(state, mapping)
        if model.config.tie_word_embeddings:
            state.pop("lm_head.weight", None)  # the original ties it to the embeddings, whatever the file holds
        names, factor = scaled_weights(model.config)
        for key in [key for key in state if mapping.to_ours(key) in names]:
            state[key] = state[key][...] * factor
    _fit_embeddings(state, mapping, model)
    return state


def _choose_tower(state: dict[str, Any], model: PreTrainedModel, raw: dict[str, Any]) -> None:
    own = [key for key in state if ".vision_tower." in key]
    if own and counts_tower_of_checkpoint(raw):
        return
    name = str(model.config.vision_tower_name_or_path)
    try:
        files = tower_files(name)
    except TowerNotFoundError:
        if not own:
            raise
        logger.warning(
            "The original reads the vision tower from %r, not from the checkpoint, but that can not be read here. "
            "The copy in the checkpoint is used; it is the same unless the tower was trained.",
            name,
        )
        return
    for key in own:
        del state[key]
    tower = lazy_state_dict(files)
    state.update({f"model.vision_tower.{ours}": tower[theirs] for theirs, ours in tower_keys(tower).items()})


def _name_residual_blocks(state: dict[str, Any], mapping: WeightMapping) -> None:
    """Residual blocks follow the projector's last linear layer, so only the projector's type tells their number."""
    for key in [key for key in state if ".mm_projector." in key and (".pre_norm." in key or ".proj." in key)]:
        ours = mapping.to_ours(key)
        if ours is not None:
            state[ours] = state.pop(key)


def _fit_embeddings(state: dict[str, Any], mapping: WeightMapping, model: PreTrainedModel) -> None:
    """
    Embeddings and head with one row per token of the tokenizer, as the original's builder resizes them.

    Its new rows are random; ours are the mean, see `checkpoints.fit_rows`. An export of ours has rows to spare: they
    go.
    """
    rows = model.config.text_config.vocab_size
    tables = {"model.language_model.embed_tokens.weight", "model.language_model.wte.weight", "lm_head.weight"}
    for key in [key for key in state if mapping.to_ours(key) in tables]:
        value = state[key]
        have = (value.get_shape() if hasattr(value, "get_shape") else value.shape)[0]
        if have > rows:
            state[key] = value[:rows]
        elif have < rows:
            table = value[:]
            state[key] = torch.cat([table, mean_row(table).expand(rows - have, -1)])


__all__ = ["adapt_original_state_dict"]
