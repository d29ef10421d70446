"""Compare the loss head on supervised positions alone with the logits of every position.

    python -m benchmarks.loss_head --json benchmarks/results/cpu.json

Hidden states of one caption sample (576 image positions and 20 of text, all of them supervised) and of one
instruction sample (576 and 274, a third of them supervised), a vocabulary of 32,000, forward and backward.
Exit status 1 if a target is missed.
"""

import sys

import torch
from torch import nn
from transformers.loss.loss_utils import ForCausalLMLoss

from benchmarks.harness.ceilings import count_flops, matmul_rate
from benchmarks.harness.command import main
from benchmarks.harness.memory import peak_bytes
from benchmarks.harness.results import Comparison, compared
from benchmarks.harness.timing import take_turns
from transformers_llava.modeling.language_head import supervised_loss


SAMPLES = {"caption": (596, 20), "instruction": (850, 91)}  # positions, supervised ones


def measure(repeats: int, *, hidden: int = 512, vocabulary: int = 32_000) -> list[Comparison]:
    """The lines of this question; the sizes are arguments so that a test can make them small."""
    found = []
    for sample, (length, num_supervised) in SAMPLES.items():
        found += _sample(sample, length, num_supervised, hidden, vocabulary, repeats)
    return found


def _sample(
    sample: str, length: int, num_supervised: int, hidden: int, vocabulary: int, repeats: int
) -> list[Comparison]:
    torch.manual_seed(0)
    head = nn.Linear(hidden, vocabulary, bias=False)
    states = torch.randn(1, length, hidden, requires_grad=True)
    labels = torch.full((1, length), -100)
    labels[:, -num_supervised:] = torch.randint(0, vocabulary, (1, num_supervised))

    def ours() -> torch.Tensor:
        return supervised_loss(states, labels, head)

    def full() -> torch.Tensor:
        return ForCausalLMLoss(head(states), labels, vocab_size=vocabulary)  # of the built-in model

    def gradients(loss: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(loss, [states, head.weight])

    mine, theirs = gradients(ours()), gradients(full())
    assert torch.allclose(ours(), full(), rtol=1e-5)
    difference = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(mine, theirs, strict=True))
    assert difference < 1e-4, difference
    del mine, theirs
    checked = f"equal losses; gradients differ by at most {difference:.1g} of the largest"
    ours_is = f"{num_supervised} of {length} positions through the head, forward and backward"
    other_is = "built-in: logits of all positions, then cross entropy"
    peak = {
        name: peak_bytes(lambda run=run: gradients(run())) / 1e6 for name, run in (("ours", ours), ("other", full))
    }
    weights = 4 * head.weight.numel() / 1e6
    return [
        compared(
            take_turns(lambda: gradients(ours()), lambda: gradients(full()), repeats=repeats),
            name=f"loss head, {sample}, time",
            unit="s",
            ours_is=ours_is,
            other_is=other_is,
            checked=checked,
            at_least=1.0,
            floor=round(count_flops(lambda: gradients(ours())) / matmul_rate(), 4),
            floor_is="counted operations of ours at the rate of a large matrix product on this machine",
        ),
        Comparison(
            name=f"loss head, {sample}, memory",
            ours=round(peak["ours"], 1),
            other=round(peak["other"], 1),
            ratio=round(peak["other"] / peak["ours"], 3),
            unit="MB",
            ours_is=f"most bytes alive, {ours_is}",
            other_is=other_is,
            checked=checked,
            at_least=1.0,
            floor=round(weights, 1),
            floor_is="the gradient of the head alone",
        ),
    ]


if __name__ == "__main__":
    sys.exit(main("loss_head", measure, repeats=7, clock="CPU time"))
