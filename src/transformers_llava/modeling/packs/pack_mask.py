"""Build the mask that a decoder needs for a packed row, or refuse a row whose documents it would mix."""

import inspect

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache
from transformers.utils import logging

from .document_probe import check_documents_apart
from .varlen_attention import VARLEN, no_mask


logger = logging.get_logger(__name__)


def build_pack_mask(
    decoder: PreTrainedModel,
    inputs_embeds: torch.Tensor,
    attention_mask: torch.Tensor | None,
    position_ids: torch.Tensor | None,
    past_key_values: Cache | None,
) -> torch.Tensor | None:
    """
    Build the attention mask with which `decoder` keeps the documents of a pack apart.

    Args:
        decoder (`PreTrainedModel`): The language model without its head.
        inputs_embeds (`torch.Tensor` of shape `(1, sequence_length, hidden_size)`): The embedded pack.
        attention_mask (`torch.Tensor`, *optional*): Must be `None`, see below.
        position_ids (`torch.Tensor` of shape `(1, sequence_length)`): Restart at 0 with every document.
        past_key_values (`Cache`, *optional*): Must be `None`, see below.

    Returns:
        `torch.Tensor`, *optional*: For `varlen` the mask without elements of [`no_mask`], as `cu_seq_lens_q` has the
        borders; else `None`, with which transformers builds a mask from the positions that restart.

    Raises:
        ValueError: The documents would be mixed: there is a mask or a cache, there are no positions, the decoder takes
            none, or [`check_documents_apart`] finds a leak.
    """
    wrong = [
        name
        for name, is_wrong in [
            ("an `attention_mask`", attention_mask is not None),
            ("a cache", past_key_values is not None),
            ("no `position_ids`", position_ids is None),
        ]
        if is_wrong
    ]
    if wrong:
        raise ValueError(
            f"A pack (`cu_seq_lens_q`) came with {' and '.join(wrong)}; its documents would then be read across "
            "their borders, with no error. Give restarting `position_ids` and neither mask nor cache, as "
            "PackedCollator does."
        )
    if not _takes_positions(decoder):
        raise ValueError(
            f"A decoder of type {decoder.config.model_type!r} does not keep the documents of a pack apart, so "
            "they would be read across their borders. Train it with `packed: false`."
        )
    check_documents_apart(decoder, inputs_embeds)
    implementation = decoder.config._attn_implementation
    if implementation == VARLEN:
        return no_mask(inputs_embeds)
    if implementation in ("sdpa", "eager"):
        logger.warning_once(
            f"A pack runs with attn_implementation={implementation!r}, which needs a dense (sequence, sequence) "
            "mask. The result is right, but slow and large; 'varlen' needs no mask."
        )
    return None


def _takes_positions(decoder: PreTrainedModel) -> bool:
    """Whether positions and borders reach the attention at all; whether it obeys them only the probe can tell."""
    takes_positions = "position_ids" in inspect.signature(decoder.forward).parameters
    return takes_positions and bool(decoder._supports_attention_backend)


__all__ = ["build_pack_mask"]
