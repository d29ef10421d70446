"""Checkpointing a part of the layers changes what is kept and computed, and not one bit of the result."""

from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file

from transformers_llava.training.recipe.recipe_error import RecipeError
from transformers_llava.training.trainer import LlavaTrainer


def test_the_weights_are_the_same_and_only_so_many_layers_compute_twice(
    run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: dict[int | None, int] = {}
    original = LlavaTrainer.training_step
    current: list[int | None] = [None]

    def count() -> None:
        counts[current[0]] = counts.get(current[0], 0) + 1

    def counting(self: LlavaTrainer, *args, **kwargs):
        handles = [
            layer.mlp.register_forward_pre_hook(
                lambda *_: counts.__setitem__(current[0], counts.get(current[0], 0) + 1)
            )
            for layer in self.model.model.language_model.layers
        ]
        loss = original(self, *args, **kwargs)
        for handle in handles:
            handle.remove()
        return loss

    monkeypatch.setattr(LlavaTrainer, "training_step", counting)
    weights = {}
    for num_layers in (None, 1, 2):
        current[0] = num_layers
        fields = {} if num_layers is None else {"gradient_checkpointing": True, "partial_checkpointing": num_layers}
        folder, _ = run(str(num_layers), num_train_epochs=1, packed=True, **fields)
        weights[num_layers] = load_file(folder / "model.safetensors")
    assert counts[1] == counts[None] * 3 // 2  # two layers, one of them twice
    assert counts[2] == counts[None] * 2
    for num_layers in (1, 2):
        assert all(torch.equal(tensor, weights[num_layers][name]) for name, tensor in weights[None].items())


def test_a_number_without_checkpointing_is_refused(run: Callable) -> None:
    with pytest.raises(RecipeError, match="partial_checkpointing=3 with gradient_checkpointing=False"):
        run(partial_checkpointing=3)
