"""Options of `generate` that read or propose ids of the prompt, with an image id that has no logit."""

import copy
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tiny import make_config, make_image, make_model, make_processor


IMAGE = 260
SETTINGS = {"max_new_tokens": 12, "do_sample": False}


@pytest.fixture(scope="module")
def prompt() -> Any:
    text = "<s>ab <image>ab ab <image>ab"
    return make_processor()(images=[make_image(), make_image(seed=1)], text=text, return_tensors="pt")


@pytest.fixture(scope="module")
def model() -> Any:
    return make_model()


@pytest.fixture(scope="module")
def greedy(model: Any, prompt: Any) -> list[list[int]]:
    return model.generate(**prompt, **SETTINGS).tolist()


@pytest.mark.parametrize(
    "option",
    [
        {"encoder_repetition_penalty": 1.3},
        {"repetition_penalty": 1.3},
        {"bad_words_ids": [[IMAGE], [5, IMAGE]]},
        {"sequence_bias": {(IMAGE,): -5.0, (7,): 3.0}},
        {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 2},
        {"encoder_no_repeat_ngram_size": 1},
        {"suppress_tokens": [IMAGE, 9]},
        {"prefix_allowed_tokens_fn": lambda _, ids: [4, 5, IMAGE]},
        {"encoder_repetition_penalty": 1.3, "num_beams": 2},
        {"guidance_scale": 1.5, "no_repeat_ngram_size": 1},
        {"prompt_lookup_num_tokens": 4, "no_repeat_ngram_size": 1},
    ],
    ids="+".join,
)
def test_options_that_index_logits_run(model: Any, prompt: Any, option: dict[str, Any]) -> None:
    output = model.generate(**prompt, **{**SETTINGS, **option})
    new = output[0, prompt["input_ids"].shape[1] :]
    assert len(new) > 0
    assert (new < IMAGE).all()
    if option.get("no_repeat_ngram_size") == 1:
        assert len(set(new.tolist())) == len(new)
        assert not set(new.tolist()) & set(prompt["input_ids"][0].tolist())


def test_a_column_for_the_image_changes_no_other_logit(model: Any, prompt: Any) -> None:
    """With a row for the image the library's own processors do the same to all logits but that one's."""
    config = make_config(image_token_index=IMAGE, text_config=_with_vocabulary(261))
    wide = make_model(config)
    with torch.no_grad():
        for name, tensor in wide.state_dict().items():
            source = model.state_dict()[name]
            tensor[: len(source)].copy_(source) if tensor.dim() else tensor.copy_(source)
        wide.lm_head.weight[IMAGE] = 0.0
    option = {"encoder_repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "bad_words_ids": [[IMAGE]]}
    settings = {**SETTINGS, **option, "output_scores": True, "return_dict_in_generate": True}
    ours, library = model.generate(**prompt, **settings), wide.generate(**prompt, **settings)
    assert ours.sequences.tolist() == library.sequences.tolist()
    for narrow, whole in zip(ours.scores, library.scores, strict=True):
        assert torch.allclose(narrow, whole[:, :IMAGE], atol=1e-4)


@pytest.mark.parametrize("image_id", [IMAGE, 259])
def test_prompt_lookup_gives_the_greedy_answer(prompt: Any, image_id: int) -> None:
    model = make_model(make_config(image_token_index=image_id))
    ids = prompt["input_ids"]
    inputs = {**prompt, "input_ids": ids.masked_fill(ids == IMAGE, image_id)}
    expected = model.generate(**inputs, **SETTINGS).tolist()
    for num_tokens in (2, 10):
        assert model.generate(**inputs, **SETTINGS, prompt_lookup_num_tokens=num_tokens).tolist() == expected


def test_what_follows_text_before_an_image_is_not_proposed_as_image(model: Any) -> None:
    """The prompt ends as the text before the image does, so a lookup finds the image's ids."""
    inputs = make_processor()(images=make_image(), text="<s>abc<image>xabc", return_tensors="pt")
    expected = model.generate(**inputs, **SETTINGS).tolist()
    assert model.generate(**inputs, **SETTINGS, prompt_lookup_num_tokens=6).tolist() == expected


@pytest.mark.parametrize("assistant", ["same", "other", "text"])
def test_speculative_decoding_gives_the_greedy_answer(
    model: Any, prompt: Any, greedy: list[list[int]], assistant: str
) -> None:
    helpers = {
        "same": lambda: copy.deepcopy(model),
        "other": lambda: make_model(seed=1),
        "text": lambda: LlamaForCausalLM(_with_vocabulary(260)).eval(),
    }
    assert model.generate(**prompt, **SETTINGS, assistant_model=helpers[assistant]()).tolist() == greedy


def test_stop_strings_take_the_processor_as_tokenizer(model: Any, prompt: Any, greedy: list[list[int]]) -> None:
    processor = make_processor()
    answer = processor.decode(greedy[0][prompt["input_ids"].shape[1] :])
    stop = next(character for character in answer[1:] if character.isascii() and character.isprintable())
    output = model.generate(**prompt, **SETTINGS, stop_strings=[stop], tokenizer=processor)
    assert stop in processor.decode(output[0, prompt["input_ids"].shape[1] :])
    assert output.shape[1] <= len(greedy[0])


def _with_vocabulary(size: int) -> LlamaConfig:
    text_config = copy.deepcopy(make_config().text_config)
    text_config.vocab_size = size
    return text_config
