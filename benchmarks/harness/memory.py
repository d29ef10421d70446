"""Count the bytes of tensors alive at a computation's fullest moment, and those kept for the backward pass."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(run: Callable[[], Any]) -> int:
    """Bytes of all tensors made by `run` that lived at the same time, at most; what lived before is not counted."""
    with _LivingTensors() as living:
        run()
    return living.peak


def saved_bytes(run: Callable[[], Any]) -> int:
    """Bytes that autograd keeps for the backward pass of `run`, each storage once, parameters not counted."""
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter) and not (tensor.is_leaf and tensor.requires_grad):
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = run()  # held, so that nothing is freed and its address used again
    del kept
    return sum(seen.values())


class _LivingTensors(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.peak = self.now = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known_before = [leaf.untyped_storage() for leaf in tree_leaves((args, kwargs)) if _is_real(leaf)]
        outputs = func(*args, **(kwargs or {}))
        inputs = {storage.data_ptr() for storage in known_before}
        for leaf in tree_leaves(outputs):
            if not _is_real(leaf):
                continue
            storage = leaf.untyped_storage()
            if storage in self._known or storage.data_ptr() in inputs:  # a view, or the input itself
                continue
            self._known.add(storage)
            self.now += storage.nbytes()
            weakref.finalize(storage, self._forget, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return outputs

    def _forget(self, size: int) -> None:
        self.now -= size


def _is_real(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided


__all__ = ["peak_bytes", "saved_bytes"]
