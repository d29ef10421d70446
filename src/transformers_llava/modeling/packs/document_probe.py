"""Probe whether a decoder keeps the documents of a pack apart: change the first, and the second must not move."""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from .varlen_attention import VARLEN, no_mask


_LENGTH = 6  # tokens of each of the three documents
_DRAWS = 3  # of documents, where the first draw moved anything
# Dense decoders give exactly 0 in every precision. Half precision: a few numbers of a token may round the other way.
_ROUNDING = {torch.float64: 1e-4, torch.float32: 1e-4}  # eager attention computes its weights in float32 in both
_ROUNDING_OF_HALF = 1e-3

# Decoder -> attention implementations under which it was probed. A probe takes two forward passes of 18 tokens.
_PROBED: WeakKeyDictionary[PreTrainedModel, set[str]] = WeakKeyDictionary()


@dataclass(frozen=True)
class PackProbe:
    """
    How far the second of three documents moves, relative to its own hidden states.

    Args:
        moved (`float`): When the first document changes; the least of all draws. A leak moves it in every draw,
            an expert that is chosen the other way for a last bit only in one.
        noise (`float`): When the third one changes; the most of all draws. No causal decoder sees it, so this is
            rounding alone: a mixture of experts groups tokens of all documents, and sums in another order.
        rounding (`float`): What the precision of the decoder's numbers excuses.
    """

    moved: float
    noise: float
    rounding: float

    @property
    def is_apart(self) -> bool:
        return self.moved <= self.rounding + 8 * self.noise  # a comparison with NaN is false: not shown, not apart


def check_documents_apart(decoder: PreTrainedModel, like: torch.Tensor, *, again: bool = False) -> None:
    """
    Refuses a decoder that reads a pack across the borders of its documents.

    A list of names would trust every decoder that is not on it, so the decoder itself is asked, once: on the device
    and with the weights and the attention implementation that it has.

    Args:
        decoder (`PreTrainedModel`): The language model without its head.
        like (`torch.Tensor`): Embeddings, for their device, precision and scale.
        again (`bool`, *optional*, defaults to `False`): Also probe where it was probed before, as on another device.

    Raises:
        ValueError: If the second document of a pack moves when the first one changes.
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
            f"moves by {probe.moved:.1e} of its size (rounding explains {probe.rounding + 8 * probe.noise:.1e}), so "
            "it would be trained on what it must not see. Train it with `packed: false`."
        )
    probed.add(implementation)


def mark_as_probed(decoder: PreTrainedModel) -> None:
    """Spares a decoder the probe whose numbers are none, as on fake tensors; training probes the real one."""
    _PROBED.setdefault(decoder, set()).add(str(decoder.config._attn_implementation))


@torch.no_grad()
def probe_pack(decoder: PreTrainedModel, like: torch.Tensor) -> PackProbe:
    """
    Runs a pack of three documents, and again with another first one; more often only where that moved anything.

    Args:
        decoder (`PreTrainedModel`): See [`check_documents_apart`]; every module gets its training mode back.
        like (`torch.Tensor`): See [`check_documents_apart`].
    """
    generator = torch.Generator().manual_seed(0)  # of its own: a run draws the same numbers with and without a probe
    scale = like.detach().float().std(correction=0).clamp(min=1e-3).cpu()
    shape = (5, 1, _LENGTH, decoder.config.hidden_size)
    modes = {module: module.training for module in decoder.modules()}
    decoder.eval()  # no dropout: two runs of one pack must be equal
    for module in modes:  # bitsandbytes repacks the weights of a 4-bit layer in evaluation, for good
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
    is_number = all(distance == distance for distance in moved)
    return PackProbe(
        min(moved) if is_number else float("nan"), max(noise), _ROUNDING.get(before.dtype, _ROUNDING_OF_HALF)
    )


def _second_of(decoder: PreTrainedModel, *documents: torch.Tensor) -> torch.Tensor:
    """Hidden states `(length, hidden_size)` of the second document."""
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
    """The farthest that a token moved, relative to its size."""
    size = before.double().norm(dim=-1).clamp(min=1e-30)
    return float(((after.double() - before.double()).norm(dim=-1) / size).max())


__all__ = ["PackProbe", "check_documents_apart", "mark_as_probed", "probe_pack"]
