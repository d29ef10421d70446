"""Probe whether a decoder keeps the documents of a pack apart: change the first, and the second must not change."""

import math
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from .varlen_attention import VARLEN, no_mask


_LENGTH = 6  # tokens of each of the three documents
_DRAWS = 3  # of new documents; the second and third only if the first one moved anything
# Dense decoders give exactly 0 in every precision. Half precision: a few numbers of a token may round the other way.
_ROUNDING = {torch.float64: 1e-4, torch.float32: 1e-4}  # eager attention computes its weights in float32 in both
_ROUNDING_OF_HALF = 1e-3
_NOISE_MARGIN = 8  # times the noise, which is the largest of three draws and not a bound

# Decoder -> attention implementations under which it was probed. A probe takes two forward passes of 18 tokens.
_PROBED: WeakKeyDictionary[PreTrainedModel, set[str]] = WeakKeyDictionary()


@dataclass(frozen=True)
class PackProbe:
    """
    How far the hidden states of the second of three documents move, relative to their norm.

    Args:
        moved (`float`): The move when the first document changes, the smallest of all draws. A leak moves the second
            document in every draw; a router that picks another expert because of a last bit does so in few of them.
        noise (`float`): The move when the third document changes, the largest of all draws. No causal decoder sees a
            later document, so this is rounding: a mixture of experts groups tokens of all documents, and therefore
            sums in another order.
        rounding (`float`): The move that the precision of the decoder explains.
    """

    moved: float
    noise: float
    rounding: float

    @property
    def explained(self) -> float:
        """The largest move that rounding explains."""
        return self.rounding + _NOISE_MARGIN * self.noise

    @property
    def is_apart(self) -> bool:
        """Whether rounding explains the move; `False` if it is NaN, which proves nothing."""
        return self.moved <= self.explained


def check_documents_apart(decoder: PreTrainedModel, like: torch.Tensor, *, again: bool = False) -> None:
    """
    Refuse a decoder that reads a pack across the borders of its documents.

    A list of bad architectures would trust every decoder that is not on it, so the decoder itself is run, once per
    attention implementation: on its device and with its weights.

    Args:
        decoder (`PreTrainedModel`): The language model without its head.
        like (`torch.Tensor`): Any embeddings of it; the probe draws its own with their device, dtype and scale.
        again (`bool`, *optional*, defaults to `False`): Probe even if an earlier probe passed, as after the decoder
            was moved to another device.

    Raises:
        ValueError: The second document of a pack changes when the first one does.
    """
    if torch.compiler.is_compiling() or like.device.type == "meta":
        return  # nothing is computed here; training has probed before it compiles
    implementation = str(decoder.config._attn_implementation)
    probed = _PROBED.setdefault(decoder, set())
    if implementation in probed and not again:
        return
    probe = probe_pack(decoder, like)
    if not probe.is_apart:
        raise ValueError(
            f"A decoder of type {decoder.config.model_type!r} does not keep the documents of a pack apart with "
            f"attn_implementation={implementation!r}: when the first document of a pack is changed, the second one "
            f"moves by {probe.moved:.1e} of its size (rounding explains {probe.explained:.1e}), so "
            "it would be trained on what it must not see. Train it with `packed: false`."
        )
    probed.add(implementation)


def mark_as_probed(decoder: PreTrainedModel) -> None:
    """Skip the probe of a decoder of fake tensors, which have no numbers to compare; training probes the real one."""
    _PROBED.setdefault(decoder, set()).add(str(decoder.config._attn_implementation))


@torch.no_grad()
def probe_pack(decoder: PreTrainedModel, like: torch.Tensor) -> PackProbe:
    """
    Run a pack of three documents, then the same with another first one, and measure how far the second one moves.

    If it moves at all, the same is done with a changed third document, for comparison, and with more draws.

    Args:
        decoder (`PreTrainedModel`): See [`check_documents_apart`]. It runs in evaluation mode and without gradients;
            afterwards every module has its training mode back.
        like (`torch.Tensor`): See [`check_documents_apart`].

    Returns:
        [`PackProbe`]: `moved` is NaN if a hidden state is.
    """
    generator = torch.Generator().manual_seed(
        0
    )  # a generator of its own: the probe must not change what training draws
    scale = like.detach().float().std(correction=0).clamp(min=1e-3).cpu()
    shape = (5, 1, _LENGTH, decoder.config.hidden_size)
    modes = {module: module.training for module in decoder.modules()}
    decoder.eval()  # no dropout: two runs of one pack must be equal
    for module in modes:  # in evaluation mode bitsandbytes repacks the weights of a 4-bit layer, which stays so
        if isinstance(module, torch.nn.Linear):
            module.training = modes[module]
    moved, noise = [], [0.0]
    try:
        for _ in range(_DRAWS):
            documents = (torch.randn(shape, generator=generator) * scale).to(like.device, like.dtype)
            first, second, third, other_first, other_third = documents
            before = _second_of(decoder, first, second, third)
            moved.append(_distance(before, _second_of(decoder, other_first, second, third)))
            if moved == [0.0]:
                break
            noise.append(_distance(before, _second_of(decoder, first, second, other_third)))
    finally:
        for module, mode in modes.items():
            module.training = mode
    # `min` would hide a NaN that is not the first.
    least = math.nan if any(map(math.isnan, moved)) else min(moved)
    return PackProbe(least, max(noise), _ROUNDING.get(before.dtype, _ROUNDING_OF_HALF))


def _second_of(decoder: PreTrainedModel, *documents: torch.Tensor) -> torch.Tensor:
    """Hidden states `(_LENGTH, hidden_size)` of the second document."""
    inputs_embeds = torch.cat(documents, dim=1)
    device = inputs_embeds.device
    borders = torch.arange(len(documents) + 1, dtype=torch.int32, device=device) * _LENGTH
    outputs = decoder(
        inputs_embeds=inputs_embeds,
        attention_mask=no_mask(inputs_embeds) if decoder.config._attn_implementation == VARLEN else None,
        position_ids=torch.arange(_LENGTH, device=device).repeat(len(documents))[None],
        cu_seq_lens_q=borders,
        cu_seq_lens_k=borders,
        max_length_q=_LENGTH,
        max_length_k=_LENGTH,
        use_cache=False,
        return_dict=True,
    )
    return outputs.last_hidden_state[0, _LENGTH : 2 * _LENGTH]


def _distance(before: torch.Tensor, after: torch.Tensor) -> float:
    """The largest move of a token, relative to the norm of its hidden state."""
    size = before.double().norm(dim=-1).clamp(min=1e-30)
    return float(((after.double() - before.double()).norm(dim=-1) / size).max())


__all__ = ["PackProbe", "check_documents_apart", "mark_as_probed", "probe_pack"]
