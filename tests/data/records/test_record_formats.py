"""Raw records to Examples: what becomes an image, what stays text, and what is refused under which word."""

from pathlib import Path

import pytest

from transformers_llava.data.records.record_formats import RecordRules, to_example
from transformers_llava.data.schema import RecordError


ROOT = Path("images")


def llava(*turns: str, **fields) -> dict:
    names = ["human", "gpt"] * len(turns)
    return {"id": "a", "conversations": [{"from": n, "value": t} for n, t in zip(names, turns)], **fields}


def convert(record, **kwargs):
    default_id = kwargs.pop("default_id", "?")
    return to_example(record, RecordRules(**{"source": "s", "image_root": ROOT, **kwargs}), default_id)[0]


def content(record, turn: int = 0) -> list:
    """Parts of one turn in short: a string for text, None for an image."""
    return [part.get("text") for part in convert(record)["messages"][turn]["content"]]


def reason(record, **kwargs) -> str:
    with pytest.raises(RecordError) as caught:
        convert(record, **kwargs)
    assert caught.value.record_id.startswith("s/")
    return caught.value.reason


def test_a_llava_record():
    assert convert(llava("<image>\nWhat?", "A cat.", id=7, image="coco/1.jpg", model="x")) == {
        "id": "7",
        "messages": [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
        ],
        "images": [{"bytes": None, "path": "images/coco/1.jpg"}],
        "source": "s",
    }


@pytest.mark.parametrize("text", ["<image>\nWhat?", "What?\n<image>", " <image> What? ", "What?<image>"])
def test_one_image_goes_to_the_front_of_its_turn(text: str):
    assert content(llava(text, "A", image="1.jpg")) == [None, "What?"]


def test_a_turn_of_only_an_image_has_no_text():
    assert content(llava("<image>\n", "A", image="1.jpg")) == [None]


def test_several_images_of_one_turn_stay_where_they_are():
    record = llava("First <image> then <image>: which?", "A", image=["1.jpg", "2.jpg"])
    assert content(record) == ["First ", None, " then ", None, ": which?"]
    assert [image["path"] for image in convert(record)["images"]] == ["images/1.jpg", "images/2.jpg"]


def test_images_of_several_turns_stay_in_their_turns():
    record = llava("Look <image>", "Yes", "And <image>", "Yes", image=["1.jpg", "2.jpg"])
    assert (content(record, 0), content(record, 2)) == ([None, "Look"], [None, "And"])


def test_a_marker_without_a_declared_image_is_text():
    assert content(llava("What does <image> mean?", "A")) == ["What does <image> mean?"]
    assert content(llava("What does <image> mean?", "A", image=None)) == ["What does <image> mean?"]


def test_a_marker_in_an_answer_is_text():
    record = llava("<image>", "Write <image> there.", image="1.jpg")
    assert content(record, 1) == ["Write <image> there."]


def test_text_turns_keep_their_white_space():
    assert content(llava("  Hi\n", "A")) == ["  Hi\n"]


def test_an_answer_before_any_question_is_dropped_and_noted():
    record = {"id": 1, "conversations": [{"from": "gpt", "value": "0"}, *llava("Q", "A")["conversations"]]}
    example, notes = to_example(record, RecordRules("s", ROOT))
    assert [message["role"] for message in example["messages"]] == ["user", "assistant"]
    assert notes == ("leading_answer_dropped",)
    assert to_example(llava("Q", "A"), RecordRules("s", ROOT))[1] == ()


def test_sharegpt_roles_and_a_system_turn():
    turns = [("system", "S"), ("user", "Q"), ("chatgpt", "A"), ("human", "Q"), ("assistant", "A")]
    example = convert({"id": 1, "conversations": [{"from": name, "value": text} for name, text in turns]})
    assert [message["role"] for message in example["messages"]] == ["system", "user", "assistant", "user", "assistant"]


def test_chat_messages_keep_the_positions_of_their_parts():
    parts = [{"type": "text", "text": "a <image> "}, {"type": "image"}, {"type": "text", "text": " b"}]
    record = {
        "messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "A"}],
        "images": ["1.jpg"],
    }
    assert content(record) == ["a <image> ", None, " b"]
    assert content(record, 1) == ["A"]


def test_markers_in_a_string_content_are_images_where_the_record_has_some():
    messages = [{"role": "user", "content": "a\n<image>"}, {"role": "assistant", "content": "A"}]
    assert content({"messages": messages, "images": ["1.jpg"]}) == ["a\n", None]
    assert content({"messages": messages, "images": []}) == ["a\n<image>"]


def test_image_parts_may_carry_their_own_file():
    parts = [{"type": "image", "path": "1.jpg"}, {"type": "image_url", "image_url": {"url": "2.jpg"}}]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": "A"}]
    images = convert({"messages": messages})["images"]
    assert [image["path"] for image in images] == ["images/1.jpg", "images/2.jpg"]
    assert reason({"messages": messages, "images": ["3.jpg"]}) == "invalid_record"


def test_bytes_of_a_parquet_row_are_kept_and_its_path_is_not_followed():
    record = llava("<image>", "A", image={"bytes": b"png", "path": "/elsewhere/1.png"})
    assert convert(record)["images"] == [{"bytes": b"png", "path": None}]


def test_a_record_without_an_id_gets_the_one_of_its_place():
    assert convert({"conversations": llava("Q", "A")["conversations"]}, default_id="line 3")["id"] == "line 3"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (5, "invalid_record"),
        ({}, "invalid_record"),
        ({"conversations": []}, "invalid_record"),
        ({"conversations": "Q"}, "invalid_record"),
        ({"conversations": [["human", "Q"]]}, "invalid_record"),
        ({"conversations": [{"from": "narrator", "value": "Q"}]}, "invalid_record"),
        ({"conversations": [{"from": "human", "value": None}]}, "invalid_record"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "invalid_record"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "invalid_record"),
        (llava("<image>", "A", image=3), "invalid_record"),
        (llava("<image>", "A", image="a\0b"), "invalid_record"),
        (llava("Q", "A", image="1.jpg"), "image_count_mismatch"),
        (llava("<image><image>", "A", image="1.jpg"), "image_count_mismatch"),
        (llava("<image>\nWhat is it?", "A"), "image_count_mismatch"),  # the image has been lost
        (llava("What is it?\n<image>", "A", image=None), "image_count_mismatch"),
        (llava("<image>", "A", image=["1.jpg", "2.jpg"]), "image_count_mismatch"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "image_count_mismatch"),
        (llava("Q", ""), "empty_answer"),
        (llava("Q", "A", "Q", " \n"), "empty_answer"),
        (llava("Q"), "no_answer"),
        ({"conversations": [{"from": "gpt", "value": "A"}]}, "no_answer"),
        ({"conversations": [{"from": "human", "value": "Q"}] * 2}, "roles_do_not_alternate"),
        (
            {"conversations": llava("Q", "A")["conversations"] + llava("Q", "A")["conversations"][1:]},
            "roles_do_not_alternate",
        ),
        (llava("<image>", "A", image="../1.jpg"), "path_escapes_root"),
        (llava("<image>", "A", image="a/../../1.jpg"), "path_escapes_root"),
        (llava("<image>", "A", image="/etc/passwd"), "path_escapes_root"),
        (llava("<image>", "A", image="C:\\1.jpg"), "path_escapes_root"),
        (llava("<image>", "A", image="https://example.org/1.jpg"), "remote_image"),
        (llava("<image>", "A", image="data:image/png;base64,AAAA"), "remote_image"),
        (llava("Q \udcff", "A"), "invalid_utf8"),
        (llava("Q", "A", id="\ud800"), "invalid_utf8"),
    ],
)
def test_a_record_that_must_not_be_trained_on_is_refused_under_a_stable_word(record, expected: str):
    assert reason(record) == expected


def test_a_path_without_a_root_is_refused():
    assert reason(llava("<image>", "A", image="1.jpg"), image_root=None) == "missing_image_root"


def test_a_trailing_question_is_kept():
    assert len(convert(llava("Q", "A", "Q"))["messages"]) == 3


def test_the_error_names_record_cause_and_value():
    with pytest.raises(RecordError, match=r"record 's/a': it has 2 <image> markers but 1 images"):
        convert(llava("<image><image>", "A", image="1.jpg"))


def test_an_unknown_format_is_the_callers_mistake():
    with pytest.raises(ValueError, match="format must be auto"):
        convert(llava("Q", "A"), format="alpaca")
