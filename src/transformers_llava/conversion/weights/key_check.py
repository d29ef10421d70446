"""Check that weights under another layout's names are exactly ours: none missing, none left over."""

import re
from pathlib import Path

import torch
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from transformers_llava.conversion.conversion_report import KeyAccount
from transformers_llava.conversion.weights.key_names import WeightMapping, our_name
from transformers_llava.conversion.weights.lazy_tensors import State
from transformers_llava.modeling.configuration_open_llava import OpenLlavaConfig
from transformers_llava.modeling.modeling_open_llava import OpenLlavaForConditionalGeneration


_UNREAD = "lies behind what our model reads of it, see `build_vision_tower`"


def rename_and_check(
    state: State, mapping: WeightMapping, config: OpenLlavaConfig, folder: Path
) -> tuple[State, list[KeyAccount]]:
    """
    The state under our names, and one account per source key.

    Args:
        state (`State`): Under the names of `mapping`'s layout.
        mapping ([`WeightMapping`])
        config ([`OpenLlavaConfig`]): Says which weights the model has.
        folder (`Path`): For the message.

    Raises:
        ValueError: For keys without a place, for places without a key, and for shapes and types that do not fit.
    """
    model = empty_model(config)
    places = model.state_dict()
    unread = [re.compile(pattern) for pattern in model.model._keys_to_ignore_on_load_unexpected]
    renamings, converters = _transforms(model)
    tied = config.tie_word_embeddings
    renamed: State = {}
    accounts: list[KeyAccount] = []
    filled: set[str] = set()
    problems: list[str] = []
    for key, tensor in state.items():
        ours, reason = our_name(key, mapping, is_tied=tied)
        if ours is not None and any(pattern.search(ours) for pattern in unread):
            reason = _UNREAD
        if reason is not None:
            accounts.append(KeyAccount(key, None, reason))
            continue
        place, converter = rename_source_key(ours or key, renamings, converters, model.base_model_prefix, places)
        if ours is None or place not in places:
            problems.append(f"{key} has no place in the model")
            continue
        # Rows of the embeddings follow the tokenizer later on; fused experts have another shape than their parts.
        same_rows = place.endswith(("embed_tokens.weight", "wte.weight")) or place == "lm_head.weight"
        want = tuple(places[place].shape)
        if converter is None and (tensor.shape[1:] if same_rows else tensor.shape) != (
            want[1:] if same_rows else want
        ):
            problems.append(f"{key} is {tensor.shape}, the configuration makes it {want}")
            continue
        if places[place].is_floating_point() and not tensor.dtype.is_floating_point:
            kind = str(tensor.dtype).removeprefix("torch.")
            problems.append(f"{key} is {kind}, and weights are floating-point numbers")
            continue
        renamed[ours] = tensor
        accounts.append(KeyAccount(key, ours))
        filled.add(place)
        filled |= {place.replace(first, other) for first, other in _siblings(converters, converter)}
    missing = sorted(set(places) - filled - ({"lm_head.weight"} if tied else set()))
    problems += [f"{name} is missing" for name in missing]
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise ValueError(
            f"The weights of {folder} do not fit its configuration: {shown}. Either a file is missing or from another "
            "checkpoint, or config.json was edited. Nothing was written."
        )
    return renamed, accounts


def rename_unchecked(state: State, mapping: WeightMapping, config: OpenLlavaConfig) -> State:
    """
    The state under our names, without what is left out on purpose.

    For transformers' loader, which checks itself: a key without a place keeps its name, so that it is reported.
    """
    renamed: State = {}
    for key, tensor in state.items():
        ours, reason = our_name(key, mapping, is_tied=config.tie_word_embeddings)
        if reason is None:
            renamed[ours or key] = tensor
    return renamed


def empty_model(config: OpenLlavaConfig) -> OpenLlavaForConditionalGeneration:
    """The model without memory for its weights."""
    with torch.device("meta"):
        return OpenLlavaForConditionalGeneration(config)


def _transforms(model: OpenLlavaForConditionalGeneration) -> tuple[list[WeightRenaming], list[WeightConverter]]:
    """What transformers' loader still does with our names: language models store their experts fused."""
    transforms = get_model_conversion_mapping(model, add_legacy=False)
    renamings = [rule for rule in transforms if isinstance(rule, WeightRenaming)]
    return renamings, [rule for rule in transforms if isinstance(rule, WeightConverter)]


def _siblings(converters: list[WeightConverter], pattern: str | None) -> list[tuple[str, str]]:
    """Of a rule that makes several weights from one source: pairs (first target, each other target)."""
    for rule in converters:
        if pattern in rule.source_patterns:
            first, *others = rule.target_patterns
            return [(first, other) for other in others]
    return []


__all__ = ["empty_model", "rename_and_check", "rename_unchecked"]
