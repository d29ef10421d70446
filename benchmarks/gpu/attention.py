"""Compare attention over packs: varlen, a dense mask and installed flash-attn, all against an fp32 oracle.

python -m benchmarks.gpu.attention [--dry]
"""

import sys
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace

import torch
from torch.nn import functional

from benchmarks.gpu.measuring import device_seconds, main, matmul_rate, median
from benchmarks.gpu.shapes import Shapes, num_tokens, stage_samples
from benchmarks.harness.results import Comparison
from transformers_llava.modeling.packs.varlen_attention import varlen_attention


Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def measure(shapes: Shapes, device: str) -> list[Comparison]:
    samples = stage_samples(shapes, 2)
    lengths = [num_tokens(shapes, [sample]) for sample in samples]
    borders = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32).to(device)
    total, head_dim = sum(lengths), shapes.hidden // shapes.heads
    generator = torch.Generator(device=device).manual_seed(0)
    size = (1, shapes.heads, total, head_dim)
    qkv = [torch.randn(size, generator=generator, device=device, dtype=shapes.dtype) for _ in range(3)]
    upstream = torch.randn(size, generator=generator, device=device, dtype=shapes.dtype)
    module = SimpleNamespace(is_causal=True, num_key_value_groups=1, training=True)

    def varlen(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        found, _ = varlen_attention(module, q, k, v, None, cu_seq_lens_q=borders, max_length_q=max(lengths))
        return found.transpose(1, 2)

    document = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).to(device)
    mask = (document[:, None] == document) & torch.ones(total, total, dtype=torch.bool, device=device).tril()

    def dense(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[None, None])

    others: dict[str, Attention] = {"sdpa with a dense mask": dense}
    if (flash := _flash_attention(borders, max(lengths))) is not None and device != "cpu":
        others["flash-attn 2, as installed"] = flash
    exact = _oracle(qkv, upstream, lengths)
    errors = _errors(_both_ways(varlen, qkv, upstream), exact)
    assert max(errors) < (0.02 if shapes.dtype == torch.bfloat16 else 1e-4), errors
    _check_isolation(varlen, qkv, lengths)
    flops = 3 * sum(2 * length**2 * shapes.hidden for length in lengths)
    floor = flops / matmul_rate(shapes, device) * 1e3
    ours = median(device_seconds(lambda: _both_ways(varlen, qkv, upstream), device, shapes.repeats)) * 1e3
    lines = []
    for name, other in others.items():
        theirs = _errors(_both_ways(other, qkv, upstream), exact)
        taken = median(device_seconds(lambda other=other: _both_ways(other, qkv, upstream), device, shapes.repeats))
        lines.append(
            Comparison(
                name=f"attention of one layer, against {name}",
                ours=round(ours, 4),
                other=round(taken * 1e3, 4),
                ratio=round(taken * 1e3 / ours, 3),
                unit="ms",
                ours_is=f"varlen, forward and backward, {total:,} tokens in {len(lengths)} documents",
                other_is=name,
                checked=f"errors against fp32 (output, dq, dk, dv): ours {_text(errors)}, other {_text(theirs)}; a "
                "changed document changes no other, bit for bit",
                at_least=0.8 if "flash" in name else 0.97,
                floor=round(floor, 4),
                floor_is="operations of causal attention at the rate of a large product",
                repeats=shapes.repeats,
            )
        )
    return lines


def _both_ways(attention: Attention, qkv: list[torch.Tensor], upstream: torch.Tensor) -> list[torch.Tensor]:
    inputs = [tensor.detach().requires_grad_(True) for tensor in qkv]
    output = attention(*inputs)
    return [output.detach(), *torch.autograd.grad(output, inputs, upstream)]


def _oracle(qkv: list[torch.Tensor], upstream: torch.Tensor, lengths: list[int]) -> list[torch.Tensor]:
    """Document by document in fp32."""
    ends = torch.tensor([0, *lengths]).cumsum(0).tolist()

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        parts = [
            functional.scaled_dot_product_attention(
                q[:, :, start:end], k[:, :, start:end], v[:, :, start:end], is_causal=True
            )
            for start, end in pairwise(ends)
        ]
        return torch.cat(parts, dim=2)

    return _both_ways(attention, [tensor.float() for tensor in qkv], upstream.float())


def _errors(found: list[torch.Tensor], exact: list[torch.Tensor]) -> list[float]:
    """Norm of the difference over the norm of the exact one."""
    return [float((a.float() - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)]


def _check_isolation(attention: Attention, qkv: list[torch.Tensor], lengths: list[int]) -> None:
    before = attention(*qkv)
    changed = [tensor.clone() for tensor in qkv]
    for tensor in changed:
        tensor[:, :, : lengths[0]] += 1.0
    assert torch.equal(attention(*changed)[:, :, lengths[0] :], before[:, :, lengths[0] :])


def _flash_attention(borders: torch.Tensor, longest: int) -> Attention | None:
    try:
        from flash_attn import flash_attn_varlen_func
    except ImportError:
        return None

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        rows = [tensor.transpose(1, 2)[0] for tensor in (q, k, v)]
        return flash_attn_varlen_func(*rows, borders, borders, longest, longest, causal=True).transpose(0, 1)[None]

    return attention


def _text(errors: list[float]) -> str:
    return " ".join(f"{error:.1g}" for error in errors)


if __name__ == "__main__":
    sys.exit(main("attention", measure))
