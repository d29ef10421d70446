"""Batches, in documents of a few tokens."""

import pytest
import torch

from transformers_llava.data.batches.collators import PackedCollator, PaddedCollator, add_supervised_positions
from transformers_llava.data.schema import IGNORE_INDEX, RecordError
from transformers_llava.data.tokens.encoding import encode_example
from transformers_llava.data.tokens.policy import EncodingPolicy


@pytest.fixture
def documents(example):
    return [example([None, "Q"], "A"), example("Question", "Answer"), example([None, "R"], "B", sizes=[(10, 20)])]


def test_padded_rows_are_the_examples_and_padding_on_the_right(tiny_processor, documents):
    batch = PaddedCollator(tiny_processor)(documents)
    encoded = [encode_example(document, tiny_processor) for document in documents]
    longest = max(len(one.input_ids) for one in encoded)
    assert set(batch) == {
        "input_ids", "labels", "attention_mask", "pixel_values", "image_sizes", "shift_labels", "supervised_positions",
    }  # fmt: skip
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape == (3, longest)
    for row, one in enumerate(encoded):
        length = len(one.input_ids)
        assert batch["input_ids"][row, :length].tolist() == one.input_ids.tolist()
        assert batch["labels"][row, :length].tolist() == one.labels.tolist()
        assert batch["attention_mask"][row].tolist() == [1] * length + [0] * (longest - length)
        assert set(batch["labels"][row, length:].tolist()) <= {IGNORE_INDEX}
    assert torch.equal(batch["pixel_values"], torch.cat([encoded[0].pixel_values, encoded[2].pixel_values]))
    assert batch["image_sizes"] == [(30, 40), (20, 10)]


def test_a_padded_batch_of_text_has_no_pixels_unless_asked(tiny_processor, documents):
    assert "pixel_values" not in PaddedCollator(tiny_processor)(documents[1:2])
    batch = PaddedCollator(tiny_processor, always_image=True)(documents[1:2])
    assert batch["input_ids"].shape[0] == 2
    assert batch["attention_mask"][1].sum() == (batch["input_ids"][1] == tiny_processor.image_token_id).sum() == 4
    assert set(batch["labels"][1].tolist()) == {IGNORE_INDEX}
    assert batch["pixel_values"].shape == (1, 3, 28, 28)


def test_a_genuine_token_that_equals_the_padding_is_attended(tiny_processor, example):
    tiny_processor.tokenizer.pad_token = "A"
    batch = PaddedCollator(tiny_processor)([example("AAA", "A"), example("AAAAAA", "A")])
    assert batch["attention_mask"].sum(1).tolist() == [
        len(encode_example(example(text, "A"), tiny_processor).input_ids) for text in ("AAA", "AAAAAA")
    ]


def test_a_pack_is_the_documents_one_after_another(tiny_processor, documents):
    batch = PackedCollator(tiny_processor)(documents)
    encoded = [encode_example(document, tiny_processor) for document in documents]
    lengths = [len(one.input_ids) for one in encoded]
    assert set(batch) == {
        "input_ids", "labels", "position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k",
        "pixel_values", "image_sizes", "shift_labels", "supervised_positions",
    }  # fmt: skip
    assert torch.equal(batch["input_ids"][0], torch.cat([one.input_ids for one in encoded]))
    assert batch["position_ids"][0].tolist() == [place for length in lengths for place in range(length)]
    expected = [0, lengths[0], lengths[0] + lengths[1], sum(lengths)]
    for name in ("cu_seq_lens_q", "cu_seq_lens_k"):
        assert (batch[name].tolist(), batch[name].dtype) == (expected, torch.int32)
    assert batch["max_length_q"] == batch["max_length_k"] == max(lengths)
    assert type(batch["max_length_q"]) is int


def test_the_first_token_of_every_document_has_no_label(tiny_processor, example):
    template = "{% for m in messages %}{% generation %}{{ m['content'][0]['text'] }}{% endgeneration %}{% endfor %}"
    documents = [example("ab", "c"), example("de", "f")]
    encoded = encode_example(documents[0], tiny_processor, EncodingPolicy(template=template))
    assert IGNORE_INDEX not in encoded.labels.tolist()
    batch = PackedCollator(tiny_processor, EncodingPolicy(template=template))(documents)
    assert (batch["labels"][0, :6] == IGNORE_INDEX).tolist() == [True, False, False, True, False, False]


def test_a_pack_without_an_image_ends_with_a_masked_one(tiny_processor, example):
    batch = PackedCollator(tiny_processor)([example("Q", "A")])
    length = len(encode_example(example("Q", "A"), tiny_processor).input_ids)
    assert batch["cu_seq_lens_q"].tolist() == [0, length, length + 4]
    assert batch["input_ids"][0, length:].tolist() == [tiny_processor.image_token_id] * 4
    assert batch["labels"][0, length:].tolist() == [IGNORE_INDEX] * 4
    assert batch["position_ids"][0, length:].tolist() == [0, 1, 2, 3]
    assert (batch["pixel_values"].shape, len(batch["image_sizes"])) == ((1, 3, 28, 28), 1)


@pytest.mark.parametrize(
    ("labels", "positions", "shift_labels"),
    [
        ([[-100, -100, 7, -100, 8]], [1, 3], [[7, 8]]),
        ([[-100, 5], [6, -100], [-100, 9]], [0, 4], [[5, 9]]),  # nothing predicts the first token of a row
        ([[-100, -100]], [0], [[-100]]),  # the head takes part in a batch without labels
        ([[7]], [0], [[-100]]),
    ],
)
def test_supervised_positions_are_those_before_a_label(labels, positions, shift_labels):
    batch = add_supervised_positions({"labels": torch.tensor(labels), "other": 1})
    assert (batch["supervised_positions"].tolist(), batch["shift_labels"].tolist()) == (positions, shift_labels)
    assert (batch["labels"].tolist(), batch["other"]) == (labels, 1)


@pytest.mark.parametrize("collator_class", [PaddedCollator, PackedCollator])
def test_a_batch_scores_every_label_once(tiny_processor, documents, collator_class):
    batch = collator_class(tiny_processor)(documents)
    shift_labels, labels = batch["shift_labels"], batch["labels"]
    assert sorted(shift_labels[0].tolist()) == sorted(labels[labels != IGNORE_INDEX].tolist())
    assert torch.equal(batch["input_ids"].flatten()[batch["supervised_positions"] + 1], shift_labels[0])


@pytest.mark.parametrize("collator_class", [PaddedCollator, PackedCollator])
def test_options_reach_the_encoding(tiny_processor, example, collator_class):
    documents = [example("Q", "A long answer")]
    assert collator_class(tiny_processor, EncodingPolicy(30))(documents)["input_ids"].shape[1] in (30, 34)
    with pytest.raises(RecordError) as caught:
        collator_class(tiny_processor, EncodingPolicy(30, "error"))(documents)
    assert caught.value.reason == "too_long"
