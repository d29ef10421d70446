"""Accuracy: right answers over questions, whatever the batch; blind means without the image."""

from pathlib import Path

import pytest

from tiny import make_image
from transformers_llava import OpenLlavaForConditionalGeneration, OpenLlavaProcessor
from transformers_llava.data.schema import Example
from transformers_llava.evaluation.exact_match import evaluate_exact_match, normalize_answer


def make_example(number: int, folder: Path, truth: str = "cat") -> Example:
    path = folder / f"{number}.png"
    make_image(seed=number).save(path)
    question = [{"type": "image"}, {"type": "text", "text": f"What is this{'?' * number}"}]
    return Example(
        id=str(number),
        messages=[
            {"role": "user", "content": question},
            {"role": "assistant", "content": [{"type": "text", "text": truth}]},
        ],
        images=[{"bytes": None, "path": str(path)}],
        source="test",
    )


@pytest.mark.parametrize("same", ["Yes", "yes.", " YES ", "yes .\n"])
def test_case_space_and_full_stop_do_not_matter(same: str) -> None:
    assert normalize_answer(same) == "yes"


def test_accuracy_is_the_share_of_right_answers_in_any_batch_size(
    tiny_model: OpenLlavaForConditionalGeneration, tiny_processor: OpenLlavaProcessor, tmp_path: Path
) -> None:
    examples = [make_example(i, tmp_path) for i in range(3)]
    alone = evaluate_exact_match(tiny_model, tiny_processor, examples, batch_size=1, max_new_tokens=4)
    said = alone.answers[1].answer
    examples[1] = make_example(1, tmp_path, truth=said.upper() + ".")
    together = evaluate_exact_match(tiny_model, tiny_processor, examples, batch_size=3, max_new_tokens=4)
    assert [a.answer for a in together.answers] == [a.answer for a in alone.answers]
    assert together.accuracy == pytest.approx(1 / 3)
    assert [a.is_correct for a in together.answers] == [False, True, False]
    assert together.answers[2].question == "What is this??"


def test_the_blind_control_asks_the_same_without_the_image(
    tiny_model: OpenLlavaForConditionalGeneration, tiny_processor: OpenLlavaProcessor, tmp_path: Path
) -> None:
    example = make_example(1, tmp_path)
    lengths: list[int] = []
    generate = tiny_model.generate
    tiny_model.generate = lambda **inputs: lengths.append(inputs["input_ids"].shape[1]) or generate(**inputs)
    for with_images in (True, False):
        evaluate_exact_match(tiny_model, tiny_processor, [example], with_images=with_images, max_new_tokens=1)
    assert lengths[0] - lengths[1] == 4 + 1  # four patches and the line break after them


def test_training_mode_is_put_back(
    tiny_model: OpenLlavaForConditionalGeneration, tiny_processor: OpenLlavaProcessor, tmp_path: Path
) -> None:
    tiny_model.train()
    evaluate_exact_match(tiny_model, tiny_processor, [make_example(0, tmp_path)], max_new_tokens=1)
    assert tiny_model.training


def test_nothing_to_ask_is_an_error(
    tiny_model: OpenLlavaForConditionalGeneration, tiny_processor: OpenLlavaProcessor, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no example"):
        evaluate_exact_match(tiny_model, tiny_processor, [])
    example = make_example(0, tmp_path)
    example["messages"] = example["messages"][:1]
    with pytest.raises(ValueError, match="no answer to compare"):
        evaluate_exact_match(tiny_model, tiny_processor, [example])
