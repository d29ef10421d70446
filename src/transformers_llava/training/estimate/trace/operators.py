"""Count operations and bytes of every operator that runs, by operator and by class."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count


OperatorClass = Literal["matrix products", "attention", "element-wise", "optimizer", "communication"]
CLASSES: tuple[OperatorClass, ...] = ("matrix products", "attention", "element-wise", "optimizer", "communication")

_ATEN = torch.ops.aten
# Move no bytes, though their schema does not call them views.
_FREE = {"_unsafe_view", "detach", "alias", "device", "empty", "empty_like", "empty_strided", "new_empty"}
_FREE |= {
    "wait_tensor",
    "_wrap_tensor_autograd",
    "resize_",
    "set_",
    "new_empty_strided",
    "split_with_sizes",
    "lift_fresh",
    "_local_scalar_dense",
}
# Attention on a CPU is an operator of its own, which torch's table of operations leaves out.
_CPU_ATTENTION: dict[Any, Callable[..., int]] = {
    _ATEN._scaled_dot_product_flash_attention_for_cpu: lambda query, key, value, *rest, **kwargs: sdpa_flop_count(
        query.shape, key.shape, value.shape
    ),
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, query, key, value, *rest, **kwargs: sdpa_backward_flop_count(
            grad.shape, query.shape, key.shape, value.shape
        )
    ),
}


@dataclass(frozen=True)
class OperatorKey:
    """What is summed together: equal operators of one class that compute with numbers of one width."""

    name: str  # such as "aten.mm"
    kind: OperatorClass
    element_bytes: int  # of the first floating-point operand: 2 runs on the fast units of a GPU, 4 does not


@dataclass
class OperatorTotals:
    """Sums over all calls of an operator."""

    calls: int = 0
    flops: int = 0
    bytes: int = 0  # read and written, each operand once


class OperatorCounter(TorchDispatchMode):
    """
    Counts every operator below autograd, and so also what autocast casts and what checkpointing computes again.

    Operations are those of `torch.utils.flop_counter`: products and attention, two for a multiplication with an
    addition; attention counts the whole square, of which a causal kernel computes about half. Bytes are those of all
    tensors that an operator takes and gives, as if nothing stayed in a cache between two operators.

    Args:
        is_optimizer (`bool`, *optional*, defaults to `False`): Whether what runs is the optimizer's step.

    Five numbers: `(2, 3) @ (3, 4)` in float32 is 48 operations and 4 * (6 + 12 + 8) = 104 bytes.
    """

    def __init__(self, *, is_optimizer: bool = False) -> None:
        super().__init__()
        self.is_optimizer = is_optimizer
        self.totals: dict[OperatorKey, OperatorTotals] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        if any(isinstance(leaf, DTensor) for leaf in tree_leaves((args, kwargs or {}))):
            return NotImplemented  # comes back as operators on the part of this process
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        packet = func._overloadpacket
        namespace, _, name = func._schema.name.partition("::")
        if func.is_view or name in _FREE or namespace == "prim":
            return out
        flops = _operations(packet, args, kwargs, out)
        tensors = _tensors((args, kwargs, out))
        sizes = [tensor.numel() * tensor.element_size() for tensor in tensors]
        width = next((tensor.element_size() for tensor in tensors if tensor.is_floating_point()), 0)
        key = OperatorKey(f"{namespace}.{name}", self._class(namespace, name, flops), width)
        totals = self.totals.setdefault(key, OperatorTotals())
        totals.calls += 1
        totals.flops += flops
        if key.kind == "communication":  # what travels, not what lies at both ends
            totals.bytes += max(sizes, default=0)
        else:
            totals.bytes += sum(sizes) + _written_in_place(func, args)
        return out

    def _class(self, namespace: str, name: str, flops: int) -> OperatorClass:
        if namespace in ("c10d", "_c10d_functional", "c10d_functional"):
            return "communication"
        if "attention" in name or "attn" in name:
            return "attention"
        if flops:
            return "matrix products"
        return "optimizer" if self.is_optimizer else "element-wise"


def _operations(packet: Any, args: Any, kwargs: dict[str, Any], out: Any) -> int:
    if packet in _CPU_ATTENTION:
        return _CPU_ATTENTION[packet](*args, **kwargs)
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **kwargs, out_val=out))
    return 0


def _tensors(values: Any) -> list[torch.Tensor]:
    """Each once, also where an operator gives back what it was given."""
    return list({id(leaf): leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)}.values())


def _written_in_place(func: Any, args: Any) -> int:
    """Bytes of arguments that are read and then written over."""
    written = [
        value
        for argument, value in zip(func._schema.arguments, args)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(written))


__all__ = ["CLASSES", "OperatorClass", "OperatorCounter", "OperatorKey", "OperatorTotals"]
