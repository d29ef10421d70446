"""Hidden states to logits, and router choices to a balancing loss, by the settings of any decoder family."""

from collections.abc import Callable
from typing import Any

import torch


def project_hidden_states(
    hidden_states: torch.Tensor, lm_head: Callable[[torch.Tensor], torch.Tensor], text_config: Any
) -> torch.Tensor:
    """
    Logits, with the scaling and soft cap of decoders that have one (Cohere, Granite, Falcon-H1, Gemma 2).

    Args:
        hidden_states (`torch.Tensor` of shape `(..., hidden_size)`)
        lm_head: The linear layer.
        text_config: Of the language model.

    Returns:
        `torch.Tensor` of shape `(..., vocab_size)`
    """
    logits = lm_head(hidden_states)
    for name in ("logit_scale", "lm_head_multiplier", "output_multiplier"):
        if isinstance(scale := read_setting(text_config, name), float):
            logits = logits * scale
    if (scaling := read_setting(text_config, "logits_scaling")) is not None:
        logits = logits * scaling if text_config.model_type == "hyperclovax" else logits / scaling
    cap = read_setting(text_config, "final_logit_softcapping")
    return logits if cap is None else cap * torch.tanh(logits / cap)


def read_setting(config: Any, name: str) -> Any:
    """
    A field that only some configurations have, or `None`.

    `getattr` says the same, but a configuration looks for a missing name in several places and words an error before
    it gives up; six such questions were a tenth of the host's time in each step of decoding.
    """
    if torch.compiler.is_compiling():  # the compiler knows `getattr`, and asks once
        return getattr(config, name, None)
    return config.__dict__.get(name, getattr(type(config), name, None))


def balance_experts(
    router_logits: tuple[torch.Tensor, ...], attention_mask: torch.Tensor | None, text_config: Any
) -> torch.Tensor:
    """The load-balancing loss of the Switch Transformer, as every mixture of experts in transformers has it."""
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    num_experts = getattr(text_config, "num_local_experts", None) or text_config.num_experts
    return load_balancing_loss_func(router_logits, num_experts, text_config.num_experts_per_tok, attention_mask)


__all__ = ["balance_experts", "project_hidden_states", "read_setting"]
