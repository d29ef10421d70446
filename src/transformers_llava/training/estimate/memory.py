"""Estimate the bytes that training takes on each GPU, part by part."""

from dataclasses import dataclass, fields

from transformers_llava.modeling.modeling_open_llava import OpenLlavaForConditionalGeneration
from transformers_llava.training.model.components import component_of


# Bytes that one layer keeps per token for the backward pass, as multiples of hidden and intermediate size: fitted to
# what was measured of one layer of Llama 7B and 13B in bf16 with sdpa (182.6 and 228.7 KiB a token where all learns,
# 129.1 and 161.7 where weights are frozen, 167.5 and 209.5 with LoRA of rank 64). A test counts a layer again.
_KEPT = {"full": (26.3, 7.2), "frozen": (18.3, 5.2), "lora": (25.75, 6.0)}
RUNTIME = 0.9e9  # CUDA context, allocator slack and workspaces: an estimate
_LOGITS_TILE = 4096 * 32768 * 2  # TRL computes the loss in tiles of at most so many bytes


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU at the fullest moment of a step."""

    frozen_weights: float
    trained_weights: float  # fp32 master weights
    gradients: float
    optimizer: float
    gathered: float  # what a sharded backend puts together for a layer, and the head
    activations: float
    head: float
    runtime: float

    @property
    def total(self) -> float:
        return sum(getattr(self, field.name) for field in fields(self))


def memory_per_gpu(
    model: OpenLlavaForConditionalGeneration,
    modes: dict[str, str],
    *,
    backend: str,
    num_gpus: int,
    pack_tokens: float,
    num_checkpointed: int,
    lora_rank: int = 128,
    half_bytes: int = 2,
    frozen_bits: float | None = None,
) -> Memory:
    """
    Estimate the fullest moment of a step on one GPU.

    Args:
        model (`OpenLlavaForConditionalGeneration`): On the meta device.
        modes (`dict`): Component to `frozen`, `full` or `lora`.
        backend (`str`): `single_gpu`, `ddp`, `fsdp2`, `zero2` or `zero3`.
        num_gpus (`int`): Over which a sharded backend spreads.
        pack_tokens (`float`): Tokens of one micro-step on one GPU.
        num_checkpointed (`int`): Layers of the language model whose activations are computed again.
        lora_rank (`int`, *optional*, defaults to 128): Where a component is trained with LoRA.
        half_bytes (`int`, *optional*, defaults to 2): Bytes of a frozen weight.
        frozen_bits (`float`, *optional*): Bits of a weight of the language model's layers, where it is quantised.
    """
    text = model.config.text_config
    sizes = dict.fromkeys(modes, 0)
    for name, parameter in model.named_parameters():
        sizes[component_of(name)] += parameter.numel()
    trained = float(sum(size for name, size in sizes.items() if modes[name] == "full"))
    adapters = 0.0
    if modes["language_model"] == "lora":
        adapters = float(
            sum(
                lora_rank * sum(parameter.shape)
                for name, parameter in model.model.language_model.named_parameters()
                if name.endswith("_proj.weight")
            )
        )
    frozen = float(sum(size for name, size in sizes.items() if modes[name] != "full")) * half_bytes
    if frozen_bits is not None:
        layers = sum(p.numel() for n, p in model.model.language_model.named_parameters() if "_proj.weight" in n)
        frozen -= layers * (half_bytes - frozen_bits / 8)
    trained += adapters
    shards_weights, shards_state = backend in ("fsdp2", "zero3"), backend in ("fsdp2", "zero2", "zero3")
    by_weights, by_state = (num_gpus if shards else 1 for shards in (shards_weights, shards_state))
    layer = sizes["language_model"] / max(1, text.num_hidden_layers)
    head = text.vocab_size * text.hidden_size
    kept = _KEPT[modes["language_model"]]
    per_token = kept[0] * text.hidden_size + kept[1] * text.intermediate_size
    num_layers = text.num_hidden_layers
    num_kept = num_layers - num_checkpointed
    saved_inputs = 2 * text.hidden_size * num_checkpointed
    again = per_token if num_checkpointed else 0  # one layer at a time
    return Memory(
        frozen_weights=frozen / by_weights,
        trained_weights=trained * 4 / by_weights,
        gradients=trained * 4 / by_state,
        optimizer=trained * 8 / by_state,
        gathered=(2 * layer * 2 + 2 * head * 2 + head * 4) if shards_weights else trained * 2,
        activations=pack_tokens * (num_kept * per_token + saved_inputs + again),
        head=min(_LOGITS_TILE, pack_tokens * text.vocab_size * 2) + pack_tokens * text.hidden_size * 8,
        runtime=RUNTIME,
    )


__all__ = ["RUNTIME", "Memory", "memory_per_gpu"]
