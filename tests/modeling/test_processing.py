"""Markers to tokens: as many as the model gives features, one BOS, user text that stays text."""

import pytest
from transformers import AutoProcessor

from tiny import PINPOINTS, make_config, make_image, make_processor, make_tokenizer
from transformers_llava import OpenLlavaProcessor


MESSAGES = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "a cat"}]},
    {"role": "user", "content": [{"type": "text", "text": "Sure?"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "yes"}]},
]


def with_image(messages: list[dict]) -> list[dict]:
    first, *rest = messages
    return [{**first, "content": [{"type": "image", "image": make_image()}, first["content"][1]]}, *rest]


def test_a_marker_becomes_as_many_tokens_as_its_image_costs(tiny_processor: OpenLlavaProcessor) -> None:
    inputs = tiny_processor(images=make_image(), text="a<image>b", return_tensors="pt")
    assert inputs["input_ids"].tolist()[0][1:-1] == [260] * 4
    assert set(inputs) == {"input_ids", "attention_mask", "pixel_values", "image_sizes"}


def test_counting_needs_no_image() -> None:
    config = make_config(image_aspect_ratio="anyres", image_grid_pinpoints=PINPOINTS, patch_merge_type="spatial_unpad")
    processor = make_processor(config)
    for size in [(50, 20), (20, 50), (60, 61), (500, 3)]:
        inputs = processor(images=make_image(*size), text="<image>", return_tensors="pt")
        assert inputs["input_ids"].shape[1] == processor.num_image_tokens(*size)
    counts = processor._get_num_multimodal_tokens(image_sizes=[(20, 50)])
    assert (counts.num_image_tokens, counts.num_image_patches) == ([processor.num_image_tokens(50, 20)], [3])


@pytest.mark.parametrize(("text", "num_images"), [("no marker", 1), ("<image><image>", 1), ("<image>", 0)])
def test_markers_and_images_must_be_equally_many(
    text: str, num_images: int, tiny_processor: OpenLlavaProcessor
) -> None:
    with pytest.raises(ValueError, match="<image> tokens"):
        tiny_processor(images=[make_image()] * num_images or None, text=text)


def test_there_is_one_bos_on_every_path(tiny_processor: OpenLlavaProcessor) -> None:
    messages = with_image(MESSAGES[:1])
    rendered = tiny_processor.apply_chat_template(messages, add_generation_prompt=True)
    two_steps = tiny_processor(images=make_image(), text=rendered)["input_ids"][0]
    one_step = tiny_processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True
    )
    assert two_steps == one_step["input_ids"][0]
    assert two_steps.count(1) == 1
    assert two_steps[0] == 1


def test_assistant_mask_covers_answers_and_their_end(tiny_processor: OpenLlavaProcessor) -> None:
    encoded = tiny_processor.apply_chat_template(
        [with_image(MESSAGES)], tokenize=True, return_dict=True, return_tensors="pt", return_assistant_tokens_mask=True
    )
    supervised = encoded["input_ids"][encoded["assistant_masks"].bool()]
    assert tiny_processor.decode(supervised) == "a cat</s>yes</s>"


def test_image_typed_by_a_user_stays_text(tiny_processor: OpenLlavaProcessor) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "what does <image> mean?"}]}]
    encoded = tiny_processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, sanitize_control_tokens=True
    )
    ids = encoded["input_ids"][0]
    assert 260 not in ids
    assert "<image>" in tiny_processor.decode(ids)


def test_a_saved_processor_comes_back_the_same(tmp_path: object) -> None:
    config = make_config(image_aspect_ratio="anyres", image_grid_pinpoints=PINPOINTS, patch_merge_type="spatial_unpad")
    processor = make_processor(config)
    processor.save_pretrained(tmp_path)
    config.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is OpenLlavaProcessor
    expected, actual = (
        p(images=make_image(50, 20), text="<image>x", return_tensors="pt") for p in (processor, loaded)
    )
    assert expected["input_ids"].tolist() == actual["input_ids"].tolist()
    assert expected["pixel_values"].shape == actual["pixel_values"].shape  # values may be the torchvision twin's
    assert loaded.chat_template == processor.chat_template
    assert loaded.tokenizer.padding_side == "left"


def test_an_empty_list_of_images_is_text_alone(tiny_processor: OpenLlavaProcessor) -> None:
    for images in ([], [[]], None):
        assert "pixel_values" not in tiny_processor(images=images, text=["Hi"], return_tensors="pt")


def test_a_tokenizer_without_the_marker_is_refused() -> None:
    with pytest.raises(ValueError, match="has no token '<image>'"):
        OpenLlavaProcessor(image_processor=None, tokenizer=make_tokenizer())


def test_a_processor_for_another_image_id_is_refused() -> None:
    with pytest.raises(ValueError, match="at id 260, the model expects 300"):
        make_processor(make_config(image_token_index=300))
