"""The Auto classes know us, twice is once, and nothing built in has changed."""

import subprocess
import sys
from pathlib import Path

import pytest
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    LlavaConfig,
    pipeline,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

import transformers_llava
from tiny import make_config, make_image, make_model, make_processor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    make_model().save_pretrained(folder)
    make_processor().save_pretrained(folder)
    make_image().save(folder / "image.png")
    return folder


def test_registering_again_changes_nothing() -> None:
    before = len(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING)
    transformers_llava.register()
    transformers_llava.register()
    assert len(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING) == before


def test_the_auto_classes_give_our_classes(folder: Path) -> None:
    assert type(AutoConfig.from_pretrained(folder)) is transformers_llava.OpenLlavaConfig
    assert type(AutoModel.from_pretrained(folder)) is transformers_llava.OpenLlavaModel
    for auto_class in (AutoModelForImageTextToText, AutoModelForMultimodalLM):
        assert type(auto_class.from_pretrained(folder)) is transformers_llava.OpenLlavaForConditionalGeneration


def test_built_in_llava_is_untouched() -> None:
    assert type(AutoConfig.for_model("llava")) is LlavaConfig
    assert MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[LlavaConfig].__name__ == "LlavaForConditionalGeneration"


def test_the_configuration_comes_back_the_same(folder: Path) -> None:
    saved = AutoConfig.from_pretrained(folder).to_dict()
    expected = make_config().to_dict()
    assert saved["vision_config"]["image_size"] == expected["vision_config"]["image_size"]
    assert {key: saved[key] for key in expected if not isinstance(expected[key], dict)}.items() >= {
        "model_type": "open_llava",
        "image_token_index": 260,
        "projector_type": "mlp2x_gelu",
    }.items()


@pytest.mark.parametrize("kind", ["image", "path", "openai"])
def test_the_pipeline_answers(folder: Path, kind: str) -> None:
    path = str(folder / "image.png")
    part = {
        "image": {"type": "image", "image": make_image()},
        "path": {"type": "image", "path": path},
        "openai": {"type": "image_url", "image_url": {"url": path}},
    }[kind]
    messages = [{"role": "user", "content": [part, {"type": "text", "text": "What?"}]}]
    pipe = pipeline("image-text-to-text", model=str(folder))
    answer = pipe(text=messages, max_new_tokens=3, return_full_text=False)[0]["generated_text"]
    plain = pipe(
        images=make_image(), text="<s>USER: <image>\nWhat? ASSISTANT: ", max_new_tokens=3, return_full_text=False
    )
    assert isinstance(answer, str)
    assert answer == plain[0]["generated_text"]


def test_a_fresh_process_loads_and_answers(folder: Path) -> None:
    code = (
        "import sys, transformers_llava; from transformers import pipeline\n"
        "pipe = pipeline('image-text-to-text', model=sys.argv[1])\n"
        "out = pipe(images=sys.argv[1] + '/image.png', text='<image>', max_new_tokens=2, return_full_text=False)\n"
        "print(type(pipe.model).__name__, len(out))\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["OpenLlavaForConditionalGeneration", "1"], run.stderr
