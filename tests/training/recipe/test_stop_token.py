"""A template whose stop token the tokenizer does not know is refused: the model would never learn to stop."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

import tiny
from transformers_llava.training.recipe.recipe import Recipe
from transformers_llava.training.recipe.recipe_error import RecipeError
from transformers_llava.training.recipe.resolve import ResolvedRecipe, resolve_recipe


def without_s(folder: Path) -> PreTrainedTokenizerFast:
    """The tiny tokenizer with `<|end|>` where `</s>` was, as of a language model of another family."""
    text = tiny.make_tokenizer().backend_tokenizer.to_str()
    file = folder / "tokenizer.json"
    file.write_text(text.replace(json.dumps("</s>"), json.dumps("<|end|>")))
    tokens = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "<|end|>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_file(str(file)), **tokens)


def with_template(name: str) -> ResolvedRecipe:
    data = {"train_data": [{"name": "a", "path": "a"}], "chat_template": name}
    shared = {"model_name_or_path": "x", "output_dir": "x", "multi_modal_projector": "full"}
    return resolve_recipe(Recipe.from_dict({**shared, **data}))


def test_a_stop_token_in_pieces_is_refused(tmp_path: Path, run: Callable) -> None:
    processor = tiny.make_processor()
    processor.tokenizer = without_s(tmp_path)
    with pytest.raises(RecipeError, match=r"ends answers with '</s>'.*\['<', '/', 's', '>'\].*'<\|end\|>'"):
        with_template("vicuna_v1").chat_template_for(processor)
    with pytest.raises(RecipeError, match=r"ends answers with '<\|eot_id\|>'"):
        run(chat_template="llava_llama_3", train_data=[{"name": "nowhere", "path": "nowhere.json"}])


@pytest.mark.parametrize("name", ["vicuna_v1", "plain", "v0"])
def test_one_token_and_plain_text_are_taken(name: str) -> None:
    assert with_template(name).chat_template_for(tiny.make_processor())


def test_a_stop_token_that_generation_does_not_know_is_said(caplog: pytest.LogCaptureFixture) -> None:
    processor = tiny.make_processor()
    processor.tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    with_template("mpt").chat_template_for(processor)
    assert "answers end with <|im_end|>, and the tokenizer's end token is </s>" in caplog.text
