"""Name tensors that are known but not read; merging, renaming and casting make new ones from old ones.

Nothing here holds more than one tensor: a 13B checkpoint passes through a laptop. A `State` is a dictionary from
names to [`LazyTensor`].
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch


@dataclass(frozen=True)
class LazyTensor:
    """
    A tensor that is known but not read.

    Attributes:
        shape (`tuple[int, ...]`)
        dtype (`torch.dtype`)
        read (`Callable`): Reads or computes it.
        file (`str`): Where it lies, for reports.
        mapped (*optional*): The slice or memory-mapped tensor of its file, which transformers' loader reads itself;
            `None` for one that is computed.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], torch.Tensor]
    file: str = ""
    mapped: Any = None

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def to(self, dtype: torch.dtype) -> "LazyTensor":
        """The same in another floating-point type; counters and masks keep theirs."""
        if dtype == self.dtype or not self.dtype.is_floating_point:
            return self
        return replace(self, dtype=dtype, read=lambda: self.read().to(dtype), mapped=None)

    def map(
        self, function: Callable[[torch.Tensor], torch.Tensor], shape: tuple[int, ...] | None = None
    ) -> "LazyTensor":
        """`function` of it, when it is read; `shape` if that changes it."""
        return replace(self, shape=shape or self.shape, read=lambda: function(self.read()), mapped=None)

    @classmethod
    def of(cls, tensor: torch.Tensor, file: str = "") -> "LazyTensor":
        return cls(tuple(tensor.shape), tensor.dtype, lambda: tensor, file)


State = dict[str, LazyTensor]


def cast_tensor(tensor: LazyTensor, dtype: torch.dtype, name: str) -> LazyTensor:
    """
    A weight in another floating-point type, checked when it is read; `name` is its name in errors.

    Raises:
        ValueError: When it is read, if the type cannot hold one of its values: it would become infinite.
    """
    cast = tensor.to(dtype)
    if cast is tensor or torch.finfo(dtype).max >= torch.finfo(tensor.dtype).max:
        return cast

    def read() -> torch.Tensor:
        source = tensor.read()
        result = source.to(dtype)
        if (
            not _is_finite(result)
            and (too_large := source[result.float().isfinite().logical_not() & source.isfinite()]).numel()
        ):
            value = too_large[too_large.abs().argmax()].item()
            raise ValueError(
                f"{name} holds {value:g}, which {str(dtype).removeprefix('torch.')} cannot hold (its largest value is "
                f"{torch.finfo(dtype).max:g}): {too_large.numel()} values would become infinite, and answers with "
                "them. Nothing was written; use --dtype bfloat16, or leave --dtype out."
            )
        return result

    return replace(cast, read=read)


def cast_state(state: State, dtype: torch.dtype | None) -> State:
    """All tensors in another type, see [`cast_tensor`]; `None` leaves them as they are."""
    return state if dtype is None else {key: cast_tensor(tensor, dtype, key) for key, tensor in state.items()}


def as_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """A floating-point type by its name; `None` stays `None`."""
    wanted = getattr(torch, dtype, dtype) if isinstance(dtype, str) else dtype
    if wanted is not None and (not isinstance(wanted, torch.dtype) or not wanted.is_floating_point):
        raise ValueError(f"dtype={dtype!r} is no floating-point type. Use 'float32', 'bfloat16' or 'float16'.")
    return wanted


def fit_rows(tensor: LazyTensor, rows: int) -> LazyTensor:
    """
    An embedding table or head with `rows` rows: cut, or filled up with the mean of its rows.

    The original resizes both to the tokenizer's length after loading. Rows it adds are random there and stand for
    tokens that training never saw; the mean can never be the largest logit.
    """
    have = tensor.shape[0]
    if have == rows:
        return tensor
    shape = (rows, *tensor.shape[1:])
    if rows < have:
        return tensor.map(lambda table: table[:rows], shape)
    return tensor.map(lambda table: torch.cat([table, mean_row(table).expand(rows - have, *table.shape[1:])]), shape)


def mean_row(table: torch.Tensor) -> torch.Tensor:
    return table.float().mean(dim=0, keepdim=True).to(table.dtype)


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether there is neither NaN nor infinity, without a second tensor of that size."""
    if tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor if tensor.dtype.itemsize > 1 else tensor.float())
    return bool(low.isfinite() and high.isfinite())


__all__ = ["LazyTensor", "State", "as_dtype", "cast_state", "cast_tensor", "fit_rows", "mean_row"]
