"""Hold what a traced step came to."""

from dataclasses import dataclass

from transformers_llava.training.estimate.trace.live_bytes import BytesByPurpose
from transformers_llava.training.estimate.trace.operators import OperatorKey, OperatorTotals


TRACED_BACKENDS = ("cpu", "single_gpu", "ddp", "fsdp2")  # ZeRO shards in DeepSpeed's own engine, which needs its GPUs


@dataclass(frozen=True)
class TracedStep:
    """One optimizer step of one process, micro-steps of gradient accumulation included."""

    operators: dict[OperatorKey, OperatorTotals]
    peak: BytesByPurpose
    num_micro_steps: int
    num_tokens: int  # of one micro-step

    @property
    def flops(self) -> int:
        return sum(totals.flops for totals in self.operators.values())

    @property
    def communicated(self) -> dict[str, int]:
        """Bytes of each kind of collective."""
        sent = {key.name: totals.bytes for key, totals in self.operators.items() if key.kind == "communication"}
        return {name: size for name, size in sent.items() if size}


__all__ = ["TRACED_BACKENDS", "TracedStep"]
