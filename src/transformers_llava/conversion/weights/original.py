"""Read the weights of an original checkpoint as the original's builder does: its tower, its rows, its scale.

Names are two-column tables, see key_names.py. What they cannot say is done here, for `llava convert`, which reads one
tensor at a time, and for `from_pretrained`, which hands memory-mapped tensors to transformers' loader.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers_llava.conversion.configs.tower_lookup import TowerNotFoundError, counts_tower_of_checkpoint
from transformers_llava.conversion.weights.key_names import WeightMapping, detect_mapping
from transformers_llava.conversion.weights.lazy_tensors import State, fit_rows
from transformers_llava.conversion.weights.tensor_files import open_files
from transformers_llava.conversion.weights.tower_weights import tower_files, tower_keys
from transformers_llava.modeling.configuration_open_llava import OpenLlavaConfig
from transformers_llava.modeling.vision.projector import projector_depth


_TABLES = ("model.language_model.embed_tokens.weight", "model.language_model.wte.weight", "lm_head.weight")


@dataclass(frozen=True)
class OriginalWeights:
    """
    The weights that the original would use.

    Attributes:
        state (`State`): Under the original's names.
        mapping ([`WeightMapping`]): From its names to ours.
        left_out (`dict[str, str]`): Names in the checkpoint that the original does not read, and why.
        notes (`tuple[str, ...]`): What a user should know.
    """

    state: State
    mapping: WeightMapping
    left_out: dict[str, str]
    notes: tuple[str, ...]


def read_original_weights(
    state: State,
    raw: dict[str, Any],
    config: OpenLlavaConfig,
    *,
    is_tower_given: bool = False,
    open_tower: Callable[[Iterable[Path]], State] = open_files,
    join: Callable[[State], State] | None = None,
) -> OriginalWeights:
    """
    A checkpoint's weights with those of the tower that the original would read.

    Args:
        state (`State`): Under the original's names; a base's, for what is joined with one.
        raw (`dict`): The checkpoint's `config.json`.
        config ([`OpenLlavaConfig`]): The same in our layout; names the tower.
        is_tower_given (`bool`, *optional*, defaults to `False`): Whether the caller chose the tower, so that it counts
            in any case.
        open_tower (`Callable`, *optional*): Opens the tower's files.
        join (`Callable`, *optional*): Merges a LoRA or a projector, whose weights count more than the tower's.

    Raises:
        TowerNotFoundError: If the checkpoint has no tower and the one that it names cannot be read.
    """
    text_prefix = "transformer" if any(key.startswith("transformer.") for key in state) else "model"
    own = [key for key in state if ".vision_tower." in key]
    left_out: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    if not own or is_tower_given or not counts_tower_of_checkpoint(raw):
        try:
            tower = open_tower(tower_files(str(config.vision_tower_name_or_path)))
        except TowerNotFoundError:
            if not own:
                raise
            notes = (
                f"the original reads the vision tower from {raw.get('mm_vision_tower')!r}, which cannot be read "
                "here: the copy in the checkpoint is used, which is the same unless the tower was trained",
            )
        else:
            left_out = dict.fromkeys(own, "the original ignores this copy of the tower and reads the separate one")
            state = {key: tensor for key, tensor in state.items() if key not in left_out}
            prefix = f"{text_prefix}.vision_tower.vision_tower.vision_model."
            state |= {prefix + inside: tower[key] for key, inside in tower_keys(tower).items()}
    state = state if join is None else join(state)
    return OriginalWeights(state, detect_mapping(state, config.projector_type), left_out, notes)


def scale_as_original(state: State, config: OpenLlavaConfig) -> tuple[State, list[str]]:
    """
    Image features of an original Gemma in the scale that today's Gemma expects them in; others as they are.

    Until transformers 4.5x Gemma multiplied everything that entered it by sqrt(hidden_size), images included;
    LLaVA-NeXT's Gemma was trained so. Today the embedding table multiplies its own output, and features from elsewhere
    enter as they are. The factor therefore goes into the projector's last layer and the newline vector.

    Args:
        state (`State`): Under our names; not changed.
        config ([`OpenLlavaConfig`])

    Returns:
        The state, and one note per weight that is multiplied.

    Raises:
        ValueError: For a Gemma whose projector has no last linear layer, into which no factor can go.
    """
    if config.text_config.model_type != "gemma":
        return state, []
    num_layers, num_blocks = projector_depth(config.projector_type)
    if num_blocks or not num_layers:
        raise ValueError(
            f"projector_type={config.projector_type!r} with a Gemma: the factor that the original's Gemma puts on "
            "image features has no place in this projector, so the features would be too small. It is refused."
        )
    last = f"model.multi_modal_projector.linear_{num_layers}"
    factor = math.sqrt(config.text_config.hidden_size)
    names = [key for key in (f"{last}.bias", f"{last}.weight", "model.image_newline") if key in state]
    scaled = {key: state[key].map(lambda tensor: tensor * factor) for key in names}
    note = f"is multiplied by {factor:.6g}, as the original's Gemma does with image features"
    return state | scaled, [f"{key} {note}" for key in names]


def fit_embeddings(state: State, config: OpenLlavaConfig) -> tuple[State, list[str]]:
    """
    Embeddings and head with one row per token of the tokenizer, as the original's builder resizes them.

    An export of ours to the built-in classes has rows to spare: they go.

    Args:
        state (`State`): Under our names; not changed.
        config ([`OpenLlavaConfig`]): Its `vocab_size` follows the tokenizer.

    Returns:
        The state, and one note per table of another length.
    """
    rows = config.text_config.vocab_size
    fitted = {key: fit_rows(state[key], rows) for key in _TABLES if key in state and state[key].shape[0] != rows}
    notes = [f"{key} has {rows} rows instead of {state[key].shape[0]}, as the tokenizer has tokens" for key in fitted]
    return state | fitted, notes


__all__ = ["OriginalWeights", "fit_embeddings", "read_original_weights", "scale_as_original"]
