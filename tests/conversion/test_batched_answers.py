"""Saved processors pad on the left: a pipeline answers a batch as it answers one by one, from every kind of folder."""

import pytest
import torch
from transformers import AutoProcessor, PreTrainedTokenizerFast, pipeline

from support.original_folders import write_original
from tiny import PINPOINTS, TEMPLATE, make_config, make_image, make_model, make_processor, make_tokenizer
from transformers_llava import OpenLlavaProcessor
from transformers_llava.conversion.convert import convert_checkpoint
from transformers_llava.data.batches.collators import PaddedCollator
from transformers_llava.demo.base_models.tokenizer import make_tokenizer as make_demo_tokenizer


KINDS = ["ours", "original", "converted", "exported", "tiled", "tiled exported"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One folder per kind; the tokenizers that they come from all say `padding_side: right`, as Vicuna's does."""
    root = tmp_path_factory.mktemp("batched")
    tokenizer = make_tokenizer()
    tokenizer.padding_side = "right"
    original = write_original(root / "original").folder
    tokenizer.save_pretrained(original)
    convert_checkpoint(original, root / "converted")
    convert_checkpoint(original, root / "exported", to="builtin")
    save_ours(root / "ours", tokenizer)
    fields = {"image_aspect_ratio": "anyres", "image_grid_pinpoints": PINPOINTS, "patch_merge_type": "spatial_unpad"}
    save_ours(root / "tiled", tokenizer, **fields)
    convert_checkpoint(root / "tiled", root / "tiled exported", to="builtin")
    return {kind: root / kind for kind in KINDS}


def save_ours(folder, tokenizer: PreTrainedTokenizerFast, **fields) -> None:
    config = make_config(**fields)
    make_model(config, seed=3).save_pretrained(folder)
    OpenLlavaProcessor.from_model_config(config, tokenizer, chat_template=TEMPLATE).save_pretrained(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_answered_as_one_by_one(folders, kind):
    pipe = pipeline("image-text-to-text", model=str(folders[kind]))
    assert pipe.processor.tokenizer.padding_side == "left"
    chats = [
        [{"role": "user", "content": [{"type": "image", "image": make_image(*size)}, {"type": "text", "text": text}]}]
        for size, text in [
            ((50, 20), "What?"),  # all of three tiles: the pipeline cannot batch built-in llava_next's otherwise
            ((60, 28), "What colour has the largest of them?"),
            ((30, 60), "Where is it?"),
            ((28, 56), "Is there a circle left of the square?"),
        ]
    ]
    options = {"max_new_tokens": 6, "do_sample": False, "return_full_text": False}
    one_by_one = [pipe(text=chat, **options)[0]["generated_text"] for chat in chats]
    batched = [answer[0]["generated_text"] for answer in pipe(text=chats, batch_size=4, **options)]
    assert batched == one_by_one
    assert len(set(one_by_one)) > 1  # a model that says the same to everything would prove nothing


def test_a_folder_that_pads_right_is_converted_to_one_that_pads_left(folders, tmp_path):
    processor = AutoProcessor.from_pretrained(folders["ours"])
    make_model(make_config(), seed=3).save_pretrained(tmp_path / "old")
    processor.tokenizer.padding_side = "right"
    processor.save_pretrained(tmp_path / "old")
    for to in ("open_llava", "builtin"):
        convert_checkpoint(tmp_path / "old", tmp_path / to, to=to)
        assert AutoProcessor.from_pretrained(tmp_path / to).tokenizer.padding_side == "left"


def test_the_demo_s_tokenizer_pads_left(tmp_path):
    assert make_demo_tokenizer(["a red circle"], tmp_path).padding_side == "left"


def test_training_batches_do_not_depend_on_the_side_that_the_processor_says():
    batches = []
    for side in ("left", "right"):
        processor = make_processor()
        processor.tokenizer.padding_side = side
        examples = [
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": question}]},
                    {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]},
                ],
                "images": [],
                "id": question,
                "source": "test",
            }
            for question in ("Hi?", "Is there anything else?")
        ]
        batches.append(PaddedCollator(processor)(examples))
    assert batches[0]["attention_mask"][0, 0] == 1
    assert batches[0]["attention_mask"][0, -1] == 0
    for name, tensor in batches[0].items():
        assert torch.equal(tensor, batches[1][name]), name
