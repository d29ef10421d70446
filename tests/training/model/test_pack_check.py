"""A run with packs is refused for a decoder that would read them across documents, before its data are read."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import tiny
from transformers_llava.training.recipe.recipe_error import RecipeError


def save_gpt_oss(folder: Path) -> str:
    sizes = {"vocab_size": 260, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 16}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 2, "num_experts_per_tok": 1}
    rope = {"rope_type": "default", "rope_theta": 1e4}
    torch.manual_seed(0)
    config = AutoConfig.for_model("gpt_oss", **sizes, **heads, rope_parameters=rope, eos_token_id=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny.make_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("attention", ["eager", "varlen"])
def test_a_decoder_that_mixes_documents_is_refused_before_the_data_are_read(
    run: Callable, tmp_path: Path, attention: str
) -> None:
    language_model = save_gpt_oss(tmp_path / "gpt_oss")
    nowhere = [{"name": "nowhere", "path": str(tmp_path / "nowhere.json")}]
    changes = {"language_model_name_or_path": language_model, "train_data": nowhere, "attn_implementation": attention}
    with pytest.raises(RecipeError, match=r"`packed: true` cannot be used: .*`packed: false`"):
        run(**changes, packed=True)
    with pytest.raises(RecipeError, match="nowhere"):  # padded, the next thing that is wrong
        run(**changes, packed=False)
