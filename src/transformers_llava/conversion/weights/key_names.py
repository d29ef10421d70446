"""Rename weights between other layouts and ours: tables of two columns, read in both directions.

A row pairs a prefix of the other layout with the prefix that stands for it here; what follows is copied. The first row
that fits decides. Ours are the names of today's built-in LLaVA classes: `model.vision_tower.*`,
`model.multi_modal_projector.*`, `model.language_model.*`, `model.image_newline`, `lm_head.weight`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from transformers.core_model_loading import WeightRenaming

from transformers_llava.modeling.vision.projector import projector_depth


Rows = tuple[tuple[str, str], ...]

# Layouts of llava-hf checkpoints: up to transformers 4.51 (which vLLM, MLX and llama.cpp read), and since.
CLASSIC_ROWS: Rows = (
    ("language_model.lm_head.", "lm_head."),
    ("language_model.model.", "model.language_model."),
    ("vision_tower.vision_model.", "model.vision_tower."),
    ("vision_tower.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
    ("image_newline", "model.image_newline"),
)
NESTED_ROWS: Rows = (
    ("model.vision_tower.vision_model.", "model.vision_tower."),
    ("model.vision_tower.", "model.vision_tower."),
    ("model.language_model.", "model.language_model."),
    ("model.multi_modal_projector.", "model.multi_modal_projector."),
    ("model.image_newline", "model.image_newline"),
    ("lm_head.", "lm_head."),
)

# Source keys that are left out on purpose, as (regular expression, reason).
DROPPED_EVERYWHERE: Rows = (
    (r"(^|\.)rotary_emb\.inv_freq$", "computed from the configuration"),
    (r"vision_model\.embeddings\.position_ids$", "a counter, computed from the configuration"),
    (r"vision_tower\..*\b(text_model|text_projection|visual_projection)\.", "the text half of a whole CLIP"),
    (r"vision_tower\..*\b(logit_scale|logit_bias)$", "the contrastive head of a whole CLIP or SigLIP"),
    (r"(^|\.)vision_resampler\.", "the original builds the resampler but never calls it"),
    (r"(^|\.)faster_token$", "only for the original's slow-fast video path, which images never take"),
)


@dataclass(frozen=True)
class WeightMapping:
    """
    The names of one layout.

    Attributes:
        name (`str`): Layout: `original`, `classic` or `nested`.
        rows (`tuple[tuple[str, str], ...]`): Pairs (prefix there, prefix here).
    """

    name: str
    rows: Rows

    def to_ours(self, key: str) -> str | None:
        """Our name of a key of the other layout; `None` if no row fits."""
        return next((ours + key[len(theirs) :] for theirs, ours in self.rows if key.startswith(theirs)), None)

    def from_ours(self, key: str) -> str | None:
        """The other layout's name of one of our keys; `None` if it has no place there."""
        return next((theirs + key[len(ours) :] for theirs, ours in self.rows if key.startswith(ours)), None)


def drop_reason(key: str) -> str | None:
    """Why a source key is left out on purpose, whatever the layout; `None` if it is not."""
    return next((reason for pattern, reason in DROPPED_EVERYWHERE if re.search(pattern, key)), None)


def our_name(key: str, mapping: WeightMapping, *, is_tied: bool) -> tuple[str | None, str | None]:
    """
    Our name of a source key, or why it is left out on purpose; neither if it has no place.

    Args:
        key (`str`)
        mapping ([`WeightMapping`])
        is_tied (`bool`): Whether the head is the embedding table, whatever the file holds.
    """
    reason = drop_reason(key)
    ours = mapping.to_ours(key) if reason is None else None
    if is_tied and ours == "lm_head.weight":
        return None, "the same tensor as the embeddings (tie_word_embeddings)"
    return ours, reason


def original_mapping(projector_type: str, text_prefix: str = "model") -> WeightMapping:
    """
    The table of an original checkpoint.

    Args:
        projector_type (`str`): For example `"mlp2x_gelu"`; decides the projector's rows.
        text_prefix (`str`, *optional*, defaults to `"model"`): `"transformer"` for MPT.

    Example:

        >>> original_mapping("mlp2x_gelu").to_ours("model.mm_projector.2.bias")
        'model.multi_modal_projector.linear_2.bias'
    """
    p = text_prefix
    return WeightMapping(
        "original",
        (
            (f"{p}.vision_tower.vision_tower.vision_model.", "model.vision_tower."),
            (f"{p}.vision_tower.vision_tower.", "model.vision_tower."),
            *((f"{p}.mm_projector.{theirs}", ours) for theirs, ours in projector_rows(projector_type)),
            (f"{p}.image_newline", "model.image_newline"),
            ("lm_head.", "lm_head."),
            (f"{p}.", "model.language_model."),
        ),
    )


def projector_rows(projector_type: str) -> Rows:
    """
    What follows `mm_projector.` in the original, against our names.

    `mlp3x_gelu` is a sequence Linear, GELU, Linear, GELU, Linear there: indices 0, 2, 4 hold weights. Residual blocks
    follow the last of them, without a GELU between: 5, 6, ...
    """
    ours = "model.multi_modal_projector."
    if projector_type == "linear":
        return (("weight", f"{ours}linear_1.weight"), ("bias", f"{ours}linear_1.bias"))
    if projector_type == "pooler":
        return (("conv_pool.", f"{ours}conv_pool."), ("proj.1.", f"{ours}linear_1."))
    num_layers, num_blocks = projector_depth(projector_type)
    rows = [(f"{2 * i}.", f"{ours}linear_{i + 1}.") for i in range(num_layers)]
    for block in range(num_blocks):
        index, target = 2 * num_layers - 1 + block, f"{ours}residual_blocks.{block}."
        rows += [
            (f"{index}.pre_norm.", f"{target}pre_norm."),
            (f"{index}.proj.0.", f"{target}linear_1."),
            (f"{index}.proj.2.", f"{target}linear_2."),
        ]
    return tuple(rows)


CLASSIC = WeightMapping("classic", CLASSIC_ROWS)
NESTED = WeightMapping("nested", NESTED_ROWS)


def detect_mapping(keys: Iterable[str], projector_type: str) -> WeightMapping:
    """The table for a checkpoint with these keys: its names, not the folder's, tell which layout it is."""
    keys = list(keys)
    prefixes = {key.split(".", 1)[0] for key in keys}
    if "language_model" in prefixes:
        return CLASSIC
    if any(key.startswith(("model.language_model.", "model.multi_modal_projector.")) for key in keys):
        return NESTED
    return original_mapping(projector_type, "transformer" if "transformer" in prefixes else "model")


@cache
def loading_rules() -> tuple[WeightRenaming, ...]:
    """
    The same tables as the rules that transformers' loader applies while it reads a checkpoint.

    The loader applies every rule that fits, one after another, and knows no configuration. So all projector depths up
    to 16 are listed, and the last row of the original, which takes whatever else is under `model.`, passes over our
    names.
    """
    projector = (*projector_rows("linear"), *projector_rows("pooler"), *projector_rows("mlp16x_gelu"))
    named = r"(?!language_model\.|vision_tower\.|multi_modal_projector\.|mm_projector\.|image_newline)"
    rules = []
    for p in ("model", "transformer"):
        rules += [(rf"^{p}\.mm_projector\.{re.escape(theirs)}", ours) for theirs, ours in projector]
        rules += [(rf"^{p}\.vision_tower\.vision_tower\.", "model.vision_tower.")]
    rules += [(f"^{re.escape(theirs)}", ours) for theirs, ours in CLASSIC_ROWS]
    rules += [
        (r"^transformer\.image_newline", "model.image_newline"),
        (r"^transformer\.", "model.language_model."),
        (rf"^model\.{named}", "model.language_model."),
    ]
    return tuple(WeightRenaming(source, target) for source, target in rules)


__all__ = [
    "CLASSIC",
    "NESTED",
    "WeightMapping",
    "detect_mapping",
    "drop_reason",
    "loading_rules",
    "original_mapping",
    "our_name",
    "projector_rows",
]
