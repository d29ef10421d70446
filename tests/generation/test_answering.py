"""Many questions about one image: the same tokens as `generate` on each whole prompt, the image seen once."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import MistralConfig

import tiny
from support.builtin_folders import write_builtin
from transformers_llava.generation.answering import ImageAnswerer


QUESTIONS = [
    "What is this?",
    "Red?",
    "How many corners does it have, and of which colour?",
    "Is it </s> big?",
]


def generate_whole(model: Any, processor: Any, images: list[Image.Image], question: str, **kwargs: Any) -> list[int]:
    return generate_all(model, processor, images, question, **kwargs)[0]


def generate_all(
    model: Any, processor: Any, images: list[Image.Image], question: str, **kwargs: Any
) -> list[list[int]]:
    content = [{"type": "image", "image": image} for image in images] + [{"type": "text", "text": question}]
    inputs = processor.apply_chat_template(
        [[{"role": "user", "content": content}]],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        sanitize_control_tokens=True,
        processor_kwargs={"add_special_tokens": False},
    )
    return [
        ids.tolist() for ids in model.generate(**inputs, do_sample=False, **kwargs)[:, inputs["input_ids"].shape[1] :]
    ]


@pytest.fixture(params=["square", "anyres"])
def model_and_processor(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    settings: dict[str, Any] = {"image_aspect_ratio": request.param}
    if request.param == "anyres":
        settings |= {"image_grid_pinpoints": tiny.PINPOINTS, "patch_merge_type": "spatial_unpad"}
    config = tiny.make_config(**settings)
    model = tiny.make_model(config).double()  # so that no near tie decides
    model.generation_config.eos_token_id = None
    return model, tiny.make_processor(config)


@pytest.mark.parametrize("batch_size", [1, 3, None])
def test_answers_are_those_of_whole_prompts(model_and_processor: tuple[Any, Any], batch_size: int | None) -> None:
    model, processor = model_and_processor
    images = [tiny.make_image()]
    answerer = ImageAnswerer(model, processor, images)
    found = answerer.generate_many(QUESTIONS, batch_size=batch_size, max_new_tokens=8)
    expected = [generate_whole(model, processor, images, question, max_new_tokens=8) for question in QUESTIONS]
    assert [ids.tolist() for ids in found] == expected
    assert len({tuple(ids) for ids in expected}) > 1, "the questions are answered differently"


def test_the_tower_runs_once_and_a_second_call_answers_the_same(model_and_processor: tuple[Any, Any]) -> None:
    model, processor = model_and_processor
    passes = []
    model.model.vision_tower.register_forward_hook(lambda *_: passes.append(1))
    answerer = ImageAnswerer(model, processor, tiny.make_image())
    first = answerer.answer_many(QUESTIONS, max_new_tokens=6)
    second = [answerer.answer(question, max_new_tokens=6) for question in QUESTIONS]
    assert first == second
    assert len(passes) == 1


def test_answers_that_end_early_are_cut_there(model_and_processor: tuple[Any, Any]) -> None:
    model, processor = model_and_processor
    image = tiny.make_image()
    free = generate_whole(model, processor, [image], QUESTIONS[0], max_new_tokens=6)
    model.generation_config.eos_token_id = free[2]
    ids = ImageAnswerer(model, processor, image).generate_many(QUESTIONS[:1], max_new_tokens=6)[0]
    assert ids.tolist() == free[: free.index(free[2]) + 1]


@pytest.mark.parametrize("batch_size", [1, None])
def test_several_images_and_a_decoder_with_a_sliding_window(batch_size: int | None) -> None:
    from transformers import MistralConfig

    text = MistralConfig(
        vocab_size=260,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=6,
        bos_token_id=1,
        pad_token_id=3,
    )
    config = tiny.make_config(text_config=text)
    model, processor = tiny.make_model(config).double(), tiny.make_processor(config)
    model.generation_config.eos_token_id = None
    images = [tiny.make_image(seed=1), tiny.make_image(30, 50, seed=2)]
    found = ImageAnswerer(model, processor, images).generate_many(QUESTIONS, batch_size=batch_size, max_new_tokens=8)
    expected = [generate_whole(model, processor, images, question, max_new_tokens=8) for question in QUESTIONS]
    assert [ids.tolist() for ids in found] == expected


@pytest.mark.parametrize("kind", ["llava", "llava_next"])
def test_it_serves_the_built_in_models_too(kind: str, tmp_path: Path) -> None:
    model, processor = write_builtin(tmp_path / kind, kind)
    model, processor.chat_template = model.double(), tiny.TEMPLATE
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = None, 3
    images = [tiny.make_image()]
    found = ImageAnswerer(model, processor, images).generate_many(QUESTIONS, max_new_tokens=6)
    expected = [generate_whole(model, processor, images, question, max_new_tokens=6) for question in QUESTIONS]
    assert [ids.tolist() for ids in found] == expected


def test_without_an_image_there_is_nothing_to_share(tiny_model: Any, tiny_processor: Any) -> None:
    with pytest.raises(ValueError, match="no image"):
        ImageAnswerer(tiny_model, tiny_processor, [])


def test_a_template_that_writes_the_question_first_is_refused(tiny_model: Any, tiny_processor: Any) -> None:
    tiny_processor.chat_template = (
        "{% for part in messages[0]['content'] | reverse %}{% if part['type'] == 'image' %}<image>{% else %}"
        "{{ part['text'] }}{% endif %}{% endfor %}"
    )
    answerer = ImageAnswerer(tiny_model, tiny_processor, tiny.make_image())
    with pytest.raises(ValueError, match="before the images"):
        answerer.answer("What is this?")


def test_sampling_gives_as_many_answers_as_questions(tiny_model: Any, tiny_processor: Any) -> None:
    torch.manual_seed(0)
    answerer = ImageAnswerer(tiny_model, tiny_processor, tiny.make_image())
    assert len(answerer.answer_many(QUESTIONS, do_sample=True, max_new_tokens=3)) == len(QUESTIONS)


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}])
@pytest.mark.parametrize("batch_size", [1, None])
def test_beams_find_what_they_find_in_whole_prompts(
    model_and_processor: tuple[Any, Any], options: dict[str, int], batch_size: int | None
) -> None:
    model, processor = model_and_processor
    images = [tiny.make_image()]
    found = ImageAnswerer(model, processor, images).generate_many(
        QUESTIONS, batch_size=batch_size, max_new_tokens=5, **options
    )
    expected = [
        ids
        for question in QUESTIONS
        for ids in generate_all(model, processor, images, question, max_new_tokens=5, **options)
    ]
    assert [ids.tolist() for ids in found] == expected


def test_beams_of_the_models_own_settings_and_of_a_sliding_window() -> None:
    text = MistralConfig(
        vocab_size=260,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=6,
    )
    config = tiny.make_config(text_config=text)
    model, processor = tiny.make_model(config).double(), tiny.make_processor(config)
    model.generation_config.update(num_beams=2, eos_token_id=None)
    images = [tiny.make_image()]
    found = ImageAnswerer(model, processor, images).generate_many(QUESTIONS[:2], max_new_tokens=4)
    expected = [generate_whole(model, processor, images, question, max_new_tokens=4) for question in QUESTIONS[:2]]
    assert [ids.tolist() for ids in found] == expected


def test_several_answers_to_a_question_stand_together(tiny_model: Any, tiny_processor: Any) -> None:
    answerer = ImageAnswerer(tiny_model, tiny_processor, tiny.make_image())
    torch.manual_seed(0)
    settings = {"do_sample": True, "num_return_sequences": 3, "max_new_tokens": 4}
    assert len(answerer.answer_many(QUESTIONS, **settings)) == 3 * len(QUESTIONS)
    with pytest.raises(ValueError, match="answer_many"):
        answerer.answer(QUESTIONS[0], **settings)


@pytest.mark.parametrize(
    "option",
    [
        {"cache_implementation": "static"},
        {"use_cache": False},
        {"past_key_values": None},
        {"prompt_lookup_num_tokens": 3},
        {"assistant_model": "model"},
        {"input_ids": torch.zeros(1, 1)},
        {"return_dict_in_generate": True},
    ],
    ids=lambda option: next(iter(option)),
)
def test_options_that_cannot_continue_from_the_images_are_refused(
    tiny_model: Any, tiny_processor: Any, option: dict[str, Any]
) -> None:
    answerer = ImageAnswerer(tiny_model, tiny_processor, tiny.make_image())
    if "assistant_model" in option:
        option = {"assistant_model": tiny_model}
    with pytest.raises(ValueError, match=next(iter(option))):
        answerer.answer("What?", **option)
    tiny_model.generation_config.cache_implementation = "static"
    with pytest.raises(ValueError, match="cache_implementation"):
        answerer.answer("What?")
