"""What a recipe asks of torch and of the machine is looked up before any data are read."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from transformers_llava.training.recipe.recipe_error import RecipeError
from transformers_llava.training.recipe.requirements import check_varlen


def torch_with(signature: Callable[..., Any]) -> ModuleType:
    module = ModuleType("torch.nn.attention.varlen")
    module.varlen_attn = signature  # type: ignore[attr-defined]
    return module


def of_2_10(query: Any, key: Any, value: Any, a: Any, b: Any, c: int, d: int, is_causal: bool = False) -> None: ...


def of_2_11(query: Any, key: Any, value: Any, *, scale: Any = None, window_size: Any = (-1, 0)) -> None: ...


def test_varlen_on_a_gpu_needs_the_kernel_of_torch_2_11(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "torch.nn.attention.varlen"
    monkeypatch.setitem(sys.modules, name, None)  # torch 2.6 to 2.9: no such module
    with pytest.raises(RecipeError, match=r"needs torch 2.11, but torch .* has no `torch.nn.attention.varlen`"):
        check_varlen("cuda")
    monkeypatch.setitem(sys.modules, name, torch_with(of_2_10))
    with pytest.raises(RecipeError, match=r"without scale and window_size.*`attn_implementation: sdpa`"):
        check_varlen("cuda")
    check_varlen("cpu")  # there it is SDPA, document by document
    monkeypatch.setitem(sys.modules, name, torch_with(of_2_11))
    check_varlen("cuda")


def test_the_installed_torch_has_it_from_2_11_on() -> None:
    is_new = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) >= (2, 11)
    if is_new:
        check_varlen("cuda")
    else:
        with pytest.raises(RecipeError):
            check_varlen("cuda")


def test_a_run_is_refused_before_its_data_are_read(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = [{"name": "nowhere", "path": str(tmp_path / "nowhere.json")}]
    with pytest.raises(RecipeError, match="moves activations from a GPU to the CPU"):
        run(train_data=nowhere, activation_offloading=True)
    monkeypatch.setattr(
        "transformers_llava.training.recipe.requirements.check_varlen", lambda device: check_varlen("cuda")
    )
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", torch_with(of_2_10))
    with pytest.raises(RecipeError, match=r"needs torch 2.11"):
        run(train_data=nowhere, packed=True, attn_implementation="varlen")
    with pytest.raises(RecipeError, match="nowhere"):
        run(train_data=nowhere, packed=False, attn_implementation="varlen")  # padded batches take another path
