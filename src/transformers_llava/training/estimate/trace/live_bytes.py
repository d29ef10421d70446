"""Count the bytes of tensors that are alive while operators run, by what they are for."""

import weakref
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


Purpose = Literal["weights", "gradients", "optimizer", "activations", "temporaries"]


@dataclass(frozen=True)
class BytesByPurpose:
    """Bytes alive at one moment."""

    weights: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0  # allocated by the forward pass and not yet freed
    temporaries: int = 0  # allocated by the backward pass or the optimizer's step, and freed within it

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


class LiveBytes(TorchDispatchMode):
    """
    Counts storages: each once, however many views of it there are, from its first tensor to its last.

    It works on real and on fake tensors alike, frozen ones included. Bytes are those of the storages; an allocator
    rounds each of them up and keeps some of them in fragments, which is not counted.

    Five numbers: with 100 bytes of weights, a product that makes 40, of which 30 are freed before 50 more are made,
    leaves 160 alive; the fullest moment held 160, and at the end of the block it is what is still referenced.
    """

    def __init__(self) -> None:
        super().__init__()
        self.phase: Purpose = "activations"  # what a new storage is for
        self.now = BytesByPurpose()
        self.peak = BytesByPurpose()
        self._sizes: dict[int, tuple[int, Purpose]] = {}  # storage to bytes and purpose
        self._watched: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def add(self, tensors: Iterable[torch.Tensor], purpose: Purpose) -> None:
        """Counts tensors that exist already, or says what those are for that are counted."""
        for tensor in tensors:
            self._count(tensor, purpose, renames=True)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if any(isinstance(leaf, DTensor) for leaf in tree_leaves((args, kwargs or {}))):
            return NotImplemented  # comes back as operators on the part of this process
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf, self.phase)
        return out

    def _count(self, tensor: torch.Tensor, purpose: Purpose, *, renames: bool = False) -> None:
        storage = _local(tensor).untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        known = self._sizes.get(key)
        if known is not None:
            before, was = known
            if before == size and (not renames or was == purpose):
                return
            self._change(was, -before)  # FSDP2 resizes the storages of gathered weights to nothing and back
            purpose = purpose if renames else was
        else:
            self._watched[key] = weakref.ref(storage, lambda _, key=key: self._forget(key))  # type: ignore[misc]
        self._sizes[key] = (size, purpose)
        self._change(purpose, size)

    def _forget(self, key: int) -> None:
        size, purpose = self._sizes.pop(key, (0, "temporaries"))
        self._watched.pop(key, None)
        self._change(purpose, -size)

    def _change(self, purpose: Purpose, size: int) -> None:
        self.now = replace(self.now, **{purpose: getattr(self.now, purpose) + size})
        if self.now.total > self.peak.total:
            self.peak = self.now


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a sharded tensor that this process holds."""
    return getattr(tensor, "_local_tensor", tensor)


__all__ = ["BytesByPurpose", "LiveBytes", "Purpose"]
