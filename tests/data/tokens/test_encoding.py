"""Labels and tokens of an example, in texts short enough to read."""

import json
from pathlib import Path

import pytest
import torch

import tiny
from transformers_llava import OpenLlavaProcessor
from transformers_llava.chat_templates import load_chat_template
from transformers_llava.data.records.record_formats import RecordRules, to_example
from transformers_llava.data.schema import IGNORE_INDEX, RecordError
from transformers_llava.data.tokens.chat_rendering import encode_rendered, render_marked, writes_control_tokens
from transformers_llava.data.tokens.counting import count_tokens
from transformers_llava.data.tokens.encoding import encode_example
from transformers_llava.data.tokens.policy import EncodingPolicy


IMAGE = "<image>" * 4  # a tile of 2 x 2 patches


def decoded(processor, encoded) -> tuple[str, str]:
    """The whole text, and the supervised part of it."""
    assert encoded.input_ids.shape == encoded.labels.shape
    supervised = encoded.labels != IGNORE_INDEX
    assert torch.equal(encoded.labels[supervised], encoded.input_ids[supervised])
    decode = processor.tokenizer.decode
    return decode(encoded.input_ids), decode(encoded.input_ids[supervised])


def test_answers_and_their_end_are_supervised_and_nothing_else(tiny_processor, example):
    encoded = encode_example(example([None, "Q"], "A", "R", "B"), tiny_processor)
    assert decoded(tiny_processor, encoded) == (
        f"<s>USER: {IMAGE}\nQ ASSISTANT: A</s>USER: R ASSISTANT: B</s>",
        "A</s>B</s>",
    )
    assert encoded.pixel_values.shape == (1, 3, 28, 28)
    assert encoded.image_sizes.tolist() == [[30, 40]]  # (height, width)
    assert (encoded.id, encoded.source) == ("1", "s")


def test_a_text_example_has_no_pixels(tiny_processor, example):
    encoded = encode_example(example("Q", "A"), tiny_processor)
    assert (encoded.pixel_values, encoded.image_sizes) == (None, None)


def test_typed_control_tokens_are_text_for_question_and_answer(tiny_processor, example):
    example = example([None, "What is <image>, </s>?"], "It says </s> and <image>.")
    encoded = encode_example(example, tiny_processor)
    assert decoded(tiny_processor, encoded) == (
        f"<s>USER: {IMAGE}\nWhat is <image>, </s>? ASSISTANT: It says </s> and <image>.</s>",
        "It says </s> and <image>.</s>",
    )
    assert int((encoded.input_ids == tiny_processor.image_token_id).sum()) == 4
    assert int((encoded.input_ids == tiny_processor.tokenizer.eos_token_id).sum()) == 1
    assert len(encoded.pixel_values) == 1


def test_typed_control_tokens_give_the_ids_that_transformers_gives(tiny_processor, example):
    example = example("a</s> <image>b", " c<s><image>")
    expected = tiny_processor.apply_chat_template(
        [example["messages"]], tokenize=True, return_dict=True, sanitize_control_tokens=True
    )
    assert encode_example(example, tiny_processor).input_ids.tolist() == expected["input_ids"][0]


def test_a_marker_that_a_user_forged_marks_nothing(tiny_processor, example):
    example = example("a\U000f0000<image>\U000f0001 </s>", "A")
    text, _ = decoded(tiny_processor, encode_example(example, tiny_processor))
    assert text == "<s>USER: a<image> </s> ASSISTANT: A</s>"


def test_both_ways_to_encode_agree_where_both_apply(tiny_processor, example):
    example = example(
        ["Is ", None, " or ", None, " new?"], "The </ s> first.", "Ü 漢?", "B", sizes=[(9, 50), (30, 20)]
    )
    assert not writes_control_tokens(example, tiny_processor.tokenizer)
    encoded = encode_example(example, tiny_processor)
    ids, is_assistant = encode_rendered(
        render_marked(example, tiny_processor.tokenizer, tiny_processor.chat_template), tiny_processor.tokenizer
    )
    one_token_per_image = torch.ones(len(encoded.input_ids), dtype=torch.bool)
    one_token_per_image[1:] = (encoded.input_ids[1:] != tiny_processor.image_token_id) | (
        encoded.input_ids[:-1] != tiny_processor.image_token_id
    )
    assert encoded.input_ids[one_token_per_image].tolist() == ids
    assert (encoded.labels[one_token_per_image] != IGNORE_INDEX).tolist() == is_assistant


def test_another_template_can_be_given(tiny_processor, example):
    encoded = encode_example(
        example([None, "ignored"], "A dog"), tiny_processor, EncodingPolicy(template=load_chat_template("plain"))
    )
    assert decoded(tiny_processor, encoded) == (f"<s>{IMAGE}A dog\n", "A dog\n")


def test_too_long_text_is_cut_at_its_end(tiny_processor, example):
    whole = encode_example(example([None, "Q"], "A long answer"), tiny_processor)
    cut = encode_example(
        example([None, "Q"], "A long answer"), tiny_processor, EncodingPolicy(len(whole.input_ids) - 8)
    )
    assert decoded(tiny_processor, cut)[1] == "A long"
    exact = encode_example(example([None, "Q"], "A long answer"), tiny_processor, EncodingPolicy(len(whole.input_ids)))
    assert torch.equal(exact.input_ids, whole.input_ids)


@pytest.mark.parametrize(
    ("max_length", "too_long", "reason"),
    [
        (20, "truncate_text", "no_supervised_token"),  # the cut leaves the question alone
        (9, "truncate_text", "too_long"),  # the cut would go through the image: "<s>USER: " is 7 tokens
        (7, "truncate_text", "too_long"),  # the cut would lose the image
        (20, "error", "too_long"),
    ],
)
def test_a_cut_that_would_spoil_the_example_is_refused(tiny_processor, example, max_length, too_long, reason):
    with pytest.raises(RecordError, match="record 's/1'") as caught:
        encode_example(example([None, "What is it?"], "A"), tiny_processor, EncodingPolicy(max_length, too_long))
    assert caught.value.reason == reason


def test_a_template_that_marks_no_answer_is_an_error(tiny_processor, example):
    template = "{{ bos_token }}{% for m in messages %}{{ m['content'][0]['text'] }}{% endfor %}"
    with pytest.raises(RecordError, match="not one of its tokens is supervised") as caught:
        encode_example(example("Q", "A"), tiny_processor, EncodingPolicy(template=template))
    assert caught.value.reason == "no_supervised_token"


def test_a_processor_without_a_template_is_the_callers_mistake(tiny_processor, example):
    tiny_processor.chat_template = None
    with pytest.raises(ValueError, match="has no chat template"):
        encode_example(example("Q", "A"), tiny_processor)


def test_an_image_that_went_bad_names_record_and_file(tiny_processor, example, tmp_path: Path):
    bad = example([None, "Q"], "A", id="7")
    bad["images"] = [{"bytes": None, "path": str(tmp_path / "gone.png")}]
    with pytest.raises(RecordError, match=r"record 's/7': the image '.*gone\.png' cannot be opened") as caught:
        encode_example(bad, tiny_processor)
    assert caught.value.reason == "missing_image"


SHAPES = [
    ["Q", "A"],
    [[None, "Q"], "A", "R", "B"],
    [["a ", None, " b ", None], "A"],
    ["typed <image> and </s>", "<s>A"],
    [[None, "typed <image>"], "A</s>"],
    [["Ü 漢 🙂 \n\t  x"], " \n A  "],
    ["a forged \U000f0000 marker", "A \U000f0001"],
]


@pytest.mark.parametrize("turns", SHAPES)
@pytest.mark.parametrize("mode", ["square", "pad", "anyres"])
def test_the_count_of_tokens_is_the_length_of_the_encoding(example, turns, mode):
    settings = (
        {"image_grid_pinpoints": tiny.PINPOINTS, "patch_merge_type": "spatial_unpad"} if mode == "anyres" else {}
    )
    processor = tiny.make_processor(tiny.make_config(image_aspect_ratio=mode, **settings))
    num_images = sum(part is None for turn in turns for part in turn)
    record = example(*turns, sizes=[(90, 21), (20, 70)][:num_images])
    for template in (None, load_chat_template("vicuna_v1"), load_chat_template("plain")):
        policy = EncodingPolicy(template=template)
        expected = len(encode_example(record, processor, policy).input_ids)
        assert count_tokens(record, processor, policy) == expected


def test_counting_reads_the_headers_of_images_only(tiny_processor, example):
    record = example([None, "Q"], "A", sizes=[(400, 300)])
    whole = count_tokens(record, tiny_processor)
    record["images"][0]["bytes"] = record["images"][0]["bytes"][:200]
    assert count_tokens(record, tiny_processor) == whole


@pytest.fixture(scope="module")
def recorded(golden: Path) -> dict:
    runs = json.loads((golden / "utilities" / "preprocess.json").read_text())["results"]
    chats = json.loads((golden / "data" / "chat.json").read_text())
    return {"runs": runs, "records": {record["id"]: record for record in chats}}


def test_ids_and_labels_equal_the_recorded_ones_of_the_original(golden: Path, recorded: dict):
    from transformers import AutoTokenizer

    run = next(r for r in recorded["runs"] if (r["version"], r["tokenizer"]) == ("v1", "llama_legacy:slow"))
    tokenizer = AutoTokenizer.from_pretrained(golden / "tokenizers" / "llama_legacy")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    config = tiny.make_config(image_token_index=tokenizer.convert_tokens_to_ids("<image>"))
    processor = OpenLlavaProcessor.from_model_config(config, tokenizer, chat_template=load_chat_template("vicuna_v1"))
    num_checked = 0
    for sample in run["samples"]:
        if sample["id"] in ("empty_answer", "two_image_tags_in_one_turn", "answer_contains_role_marker"):
            continue  # refused here; refused here (two markers, one image); wholly masked by the original
        record, _ = to_example(recorded["records"][sample["id"]], RecordRules("golden", golden / "images"))
        # The original cuts text samples when they are tokenised, image samples (much) later.
        encoded = encode_example(
            record, processor, EncodingPolicy(None if sample["has_image"] else run["model_max_length"])
        )
        is_image = encoded.input_ids == processor.image_token_id
        keep = ~is_image | (is_image.cumsum(0) % 4 == 1)
        ids = torch.where(is_image, -200, encoded.input_ids)[keep].tolist()
        labels = torch.full((len(ids),), IGNORE_INDEX)
        for start, end in sample["supervised_ranges"]:
            labels[start:end] = torch.tensor(sample["input_ids"][start:end])
        assert ids == sample["input_ids"], sample["id"]
        assert encoded.labels[keep].tolist() == labels.tolist(), sample["id"]
        num_checked += 1
    assert num_checked >= 8
