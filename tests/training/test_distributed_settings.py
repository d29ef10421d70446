"""What was asked for and what runs: refused where they differ, counted where they agree."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from transformers_llava.training.distributed import backend_facts, check_backend, describe_backend
from transformers_llava.training.recipe.recipe_error import RecipeError


def accelerator(kind: str, num_processes: int = 1, **state) -> SimpleNamespace:
    return SimpleNamespace(
        distributed_type=SimpleNamespace(value=kind), num_processes=num_processes, state=SimpleNamespace(**state)
    )


def test_sharding_that_accelerate_would_quietly_not_do_stops_the_run(run: Callable, monkeypatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    with pytest.raises(RecipeError, match="FSDP was asked for, but accelerate runs NO"):
        run()


def test_a_process_that_would_train_on_its_own_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="2 processes were started, but accelerate runs 1"):
        check_backend(accelerator("NO"))
    check_backend(accelerator("MULTI_GPU", 2))


def test_the_first_version_of_fsdp_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(RecipeError, match="version 1 of FSDP"):
        check_backend(accelerator("FSDP", fsdp_plugin=SimpleNamespace(fsdp_version=1)))


def test_a_model_of_which_nothing_is_sharded_is_refused() -> None:
    facts = backend_facts(accelerator("NO"), torch.nn.Linear(2, 2))
    assert facts == {"distributed_type": "NO", "num_processes": 1, "num_tensors": 2, "num_sharded": 0}
    assert describe_backend(facts) == "NO, 1 process, 0 of 2 tensors sharded"
    with pytest.raises(RecipeError, match="not one of 2 tensors is sharded"):
        backend_facts(accelerator("FSDP", 2), torch.nn.Linear(2, 2))
