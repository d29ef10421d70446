"""Refuse packs for a decoder that reads them across their documents, before any data are read."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from transformers_llava.modeling.packs.document_probe import check_documents_apart
from transformers_llava.training.recipe.recipe_error import RecipeError


def check_packs(model: Any, half: torch.dtype | None = None) -> None:
    """
    Probes the language model that will train: with its weights, its attention implementation, and where it lies.

    A tiny model of the same class would need sizes that fit each other in every architecture there is, and may take
    another path than the real one. So the real one runs 36 tokens: a second or so for 7B on a CPU, where a model still
    lies that will be sharded. Which document a position sees does not depend on how weights are spread.

    Args:
        model (`OpenLlavaForConditionalGeneration`): Loaded; on the device on which it trains where that has been done.
        half (`torch.dtype`, *optional*): What the run computes in, if not in the precision of its weights.

    Raises:
        `RecipeError`: The documents of a pack would not be kept apart, or the decoder cannot take a pack at all.
    """
    decoder = model.model.language_model
    weight = decoder.get_input_embeddings().weight
    like = weight[:256].detach()
    context: AbstractContextManager[Any] = nullcontext()
    if half is not None:
        context = torch.autocast(like.device.type, dtype=half)
    try:
        with context:
            check_documents_apart(decoder, like, again=True)
    except ValueError as error:
        raise RecipeError(f"`packed: true` cannot be used: {error}") from error


__all__ = ["check_packs"]
