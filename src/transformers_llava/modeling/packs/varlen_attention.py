"""Attend over packed documents without a mask: `attn_implementation="varlen"`.

On CUDA it is `torch.nn.attention.varlen`, the flash kernels that ship in torch; elsewhere SDPA document by document,
which is slow but exact, so that tests compare with it. Inputs that are not packed (generation, padded batches, the
vision tower) take transformers' own SDPA path.
"""

import inspect
from itertools import pairwise
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils import logging

from ..gpu_stand_in import stands_for_gpu


logger = logging.get_logger(__name__)

VARLEN = "varlen"


def register_varlen_attention() -> None:
    """Add `varlen` to the attention implementations that `from_pretrained` accepts, for every model."""
    AttentionInterface.register(VARLEN, varlen_attention)
    AttentionMaskInterface.register(VARLEN, sdpa_mask)


def varlen_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """
    Attend causally inside each document of a pack; the signature is that of transformers' `AttentionInterface`.

    Args:
        module (`torch.nn.Module`): The attention layer; read only for inputs that are not packed.
        query (`torch.Tensor` of shape `(1, num_heads, sequence_length, head_dim)`)
        key, value (`torch.Tensor` of shape `(1, num_key_value_heads, sequence_length, head_dim)`)
        attention_mask (`torch.Tensor`, *optional*): Ignored for packs, which come with [`no_mask`].
        scaling (`float`, *optional*, defaults to `head_dim ** -0.5`): Factor of the scores.
        dropout (`float`, *optional*, defaults to 0.0): Rate; above 0 the flash kernels cannot be used.
        sliding_window (`int`, *optional*): Number of last tokens that a token sees, itself included; all by default.
        cu_seq_lens_q (`torch.Tensor` of shape `(num_documents + 1,)`, *optional*): Where documents start and end:
            `[0, 3, 8]` are documents of 3 and 5 tokens. Without it the input is not packed.
        max_length_q (`int`, *optional*): Tokens of the longest document; needed by the flash kernels.

    Returns:
        `torch.Tensor` of shape `(1, sequence_length, num_heads, head_dim)`, and `None` for the weights.

    Raises:
        ValueError: The pack has several rows or a cache, or the layer uses a soft cap or attention sinks.
    """
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    unsupported = [name for name in ("softcap", "s_aux") if kwargs.get(name) is not None]
    if unsupported:
        raise ValueError(
            f"This decoder's attention uses {', '.join(unsupported)} (a soft cap or sinks), which 'varlen' does not "
            "have; its numbers would be off. Train it with `packed: false`; or use attn_implementation='eager', with "
            "which packs are refused too if the decoder does not keep their documents apart."
        )
    if query.shape[0] != 1 or key.shape[2] != query.shape[2]:
        raise ValueError(
            f"A pack is one row without a cache, but query has shape {tuple(query.shape)} and key {tuple(key.shape)}. "
            "Documents would be read across their borders. Give one row per pack and use_cache=False."
        )
    query, key, value = _in_flash_precision(query, key, value)
    if _has_flash(query.device) and query.dtype in (torch.float16, torch.bfloat16):
        if dropout == 0.0:
            assert max_length_q is not None, "packs carry `max_length_q` beside `cu_seq_lens_q`"
            output = _flash(query, key, value, cu_seq_lens_q, max_length_q, scaling, sliding_window)
            return output[None], None
        logger.warning_once(
            f"This decoder has an attention dropout of {dropout}, which the flash kernel does not have: documents are "
            "attended to one by one, which is slow. Set it to 0 in the text configuration, or train with `packed: "
            "false`."
        )
    borders = cu_seq_lens_q.tolist()
    documents = [
        _attend_to_document(
            query[:, :, start:end], key[:, :, start:end], value[:, :, start:end], scaling, dropout, sliding_window
        )
        for start, end in pairwise(borders)
    ]
    return torch.cat(documents, dim=2).transpose(1, 2).contiguous(), None


def no_mask(inputs: torch.Tensor) -> torch.Tensor:
    """
    A boolean mask without elements, of shape `(1, 1, 0, 0)`.

    Contract: transformers hands a 4-dimensional mask on to the attention function as it is. With this one it neither
    builds the dense `(sequence_length, sequence_length)` block mask of a pack, which costs more than half of a decoder
    layer at 13,000 tokens, nor asks the device whether positions restart.
    """
    return torch.empty(1, 1, 0, 0, dtype=torch.bool, device=inputs.device)


def _has_flash(device: torch.device) -> bool:
    return device.type == "cuda" or stands_for_gpu()


def _in_flash_precision(*states: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """
    Cast queries, keys and values to the dtype of autocast, as SDPA does by itself.

    The flash kernels take 16 bits only and are not known to autocast; rotary embeddings leave queries and keys in fp32
    where the weights are fp32.
    """
    device = states[0].device
    if not _has_flash(device) or not torch.is_autocast_enabled(device.type):
        return states
    dtype = torch.get_autocast_dtype(device.type)
    return tuple(state.to(dtype) for state in states)


def _flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    borders: torch.Tensor,
    longest: int,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    groups = query.shape[1] // key.shape[1]
    # (left, right) tokens beside a token itself: a window of 4 is (3, 0); no window is (-1, 0), all to the left.
    settings: dict[str, Any] = {"scale": scaling, "window_size": ((sliding_window or 0) - 1, 0)}
    if groups > 1:
        if "enable_gqa" in inspect.signature(varlen_attn).parameters:
            settings["enable_gqa"] = True
        else:  # torch < 2.12
            key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    # (1, heads, sequence_length, head_dim) to (sequence_length, heads, head_dim)
    query, key, value = (states.transpose(1, 2)[0].contiguous() for states in (query, key, value))
    output = varlen_attn(query, key, value, borders, borders, longest, longest, **settings)
    assert isinstance(output, torch.Tensor), "without `return_aux` there is one output"
    return output


def _attend_to_document(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    dropout: float,
    sliding_window: int | None,
) -> torch.Tensor:
    length = query.shape[2]
    window = None
    if sliding_window is not None and length > sliding_window:
        positions = torch.arange(length, device=query.device)
        distances = positions[:, None] - positions  # (length, length): how far back the key lies
        window = (distances >= 0) & (distances < sliding_window)
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=window,
        dropout_p=dropout,
        is_causal=window is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


__all__ = ["VARLEN", "no_mask", "register_varlen_attention", "varlen_attention"]
