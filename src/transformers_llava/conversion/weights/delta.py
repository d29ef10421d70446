"""Add the delta weights of the v0 generation to their LLaMA.

LLaMA's license did not allow publishing changed weights in 2023, so the first checkpoints hold `target - base`.
"""

import torch

from transformers_llava.conversion.weights.key_names import drop_reason
from transformers_llava.conversion.weights.lazy_tensors import LazyTensor, State


_MAY_GROW = ("model.embed_tokens.weight", "lm_head.weight")


def apply_delta(base: State, delta: State) -> State:
    """
    Full weights: base plus delta, tensor by tensor, when each is read.

    Added tokens make the embeddings and the head larger than the base's; there the base is added to the top left
    block.

    Args:
        base (`State`): The LLaMA that the delta was made from.
        delta (`State`): What was published.

    Raises:
        ValueError: If the two do not fit each other.
    """
    missing = sorted(key for key in base if key not in delta and drop_reason(key) is None)
    if missing:
        raise ValueError(
            f"The delta lacks {len(missing)} tensors of the base, such as {missing[:3]}; it was made from another "
            "model. Give the LLaMA that its model card names with `--base`."
        )
    full: State = {}
    for key, change in delta.items():
        if key in base and drop_reason(key) is None:
            full[key] = _add(key, base[key], change)
        elif key in base or ".mm_projector." in key or ".vision_tower." in key:
            full[key] = change
        else:
            raise ValueError(
                f"The delta has {key!r}, which is neither in the base nor a part of LLaVA; it was made from another "
                "model. Give the LLaMA that its model card names with `--base`."
            )
    return full


def _add(key: str, base: LazyTensor, change: LazyTensor) -> LazyTensor:
    if base.shape == change.shape:
        return change.map(lambda delta: (delta.float() + base.read().float()).to(delta.dtype))
    if key not in _MAY_GROW or any(b > c for b, c in zip(base.shape, change.shape, strict=True)):
        raise ValueError(
            f"{key!r} is {change.shape} in the delta and {base.shape} in the base; only embeddings and head may grow. "
            "The delta was made from another model: give the LLaMA that its model card names with `--base`."
        )

    def add(delta: torch.Tensor) -> torch.Tensor:
        full = delta.float().clone()
        full[: base.shape[0], : base.shape[1]] += base.read().float()
        return full.to(delta.dtype)

    return change.map(add)


__all__ = ["apply_delta"]
