"""LLaVA-NeXT's rule for examples with several images: one padded tile each, counted as it is encoded and trained."""

import itertools

import pytest
import torch

import tiny
from transformers_llava.data.batches.collators import PackedCollator, PaddedCollator
from transformers_llava.data.tokens.counting import TokenCounter, count_tokens
from transformers_llava.data.tokens.encoding import encode_example
from transformers_llava.data.tokens.policy import EncodingPolicy


SIZES = [(90, 21), (20, 70)]


@pytest.fixture
def config():
    return tiny.make_config(
        image_aspect_ratio="anyres", image_grid_pinpoints=tiny.PINPOINTS, patch_merge_type="spatial_unpad"
    )


def test_each_of_several_images_is_one_tile_and_a_newline(config, example):
    processor = tiny.make_processor(config)
    encoded = encode_example(
        example([None, None, "Q"], "A", sizes=SIZES), processor, EncodingPolicy(several_images="one_tile")
    )
    assert encoded.pixel_values.shape[0] == 2
    assert int((encoded.input_ids == processor.image_token_id).sum()) == 2 * (4 + 1)
    assert encoded.image_sizes.tolist() == [[21, 90], [70, 20]]


@pytest.mark.parametrize("text", ["Q", "a typed <image> and </s>"])
@pytest.mark.parametrize("several_images", ["tiles", "one_tile"])
@pytest.mark.parametrize("num_images", [0, 1, 2])
def test_lengths_count_what_is_encoded(config, example, text, several_images, num_images):
    processor = tiny.make_processor(config)
    record = example([*[None] * num_images, text], "A", sizes=SIZES[:num_images])
    encoded = encode_example(record, processor, EncodingPolicy(several_images=several_images))
    assert count_tokens(record, processor, EncodingPolicy(several_images=several_images)) == len(encoded.input_ids)


def test_an_image_counts_anew_where_it_is_one_of_several(config, example, tmp_path, png):
    processor = tiny.make_processor(config)
    (tmp_path / "x.png").write_bytes(png(90, 21))
    one, two = example([None, "Q"], "A"), example([None, None, "Q"], "A")
    for record in (one, two):
        record["images"] = [{"bytes": None, "path": str(tmp_path / "x.png")}] * len(record["images"])
    counter = TokenCounter(processor, EncodingPolicy(several_images="one_tile"))
    assert [counter.image_costs(one), counter.image_costs(two)] == [
        [processor.num_image_tokens(90, 21)],
        [4 + 1, 4 + 1],
    ]
    assert counter.fingerprint("x") != TokenCounter(processor).fingerprint("x")


def test_an_untiled_checkpoint_knows_no_difference(tiny_processor, example):
    record = example([None, None, "Q"], "A", sizes=SIZES)
    one, other = (
        encode_example(record, tiny_processor, EncodingPolicy(several_images=how)) for how in ("tiles", "one_tile")
    )
    assert torch.equal(one.input_ids, other.input_ids)
    assert torch.equal(one.pixel_values, other.pixel_values)


def test_the_model_reads_such_a_batch(config, example):
    records = [example([None, None, "Q"], "A", sizes=SIZES), example("Q", "A")]
    batch = PaddedCollator(tiny.make_processor(config), EncodingPolicy(several_images="one_tile"))(records)
    with torch.no_grad():
        assert torch.isfinite(tiny.make_model(config)(**batch).loss)


@pytest.mark.parametrize("collator", [PaddedCollator, PackedCollator])
def test_one_batch_mixes_whole_and_cut_images(config, example, collator):
    records = [
        example([None, None, "Q"], "A", sizes=SIZES, id="two"),
        example("no image", "A", id="text"),
        example([None, "Q"], "A", sizes=SIZES[:1], id="one"),
    ]
    collate = collator(tiny.make_processor(config), EncodingPolicy(several_images="one_tile"))
    model = tiny.make_model(config).eval()
    together = collate(records)
    assert together["num_tiles"] == [1, 1, together["pixel_values"].shape[0] - 2]
    assert together["num_tiles"][2] > 1
    with torch.no_grad():
        alone = [model(**{**collate([record]), "labels": None}).logits[0] for record in records]
        logits = model(**{**together, "labels": None}).logits
    if collator is PackedCollator:
        cu_seq_lens = together["cu_seq_lens_q"].tolist()
        rows = [logits[0, start:end] for start, end in itertools.pairwise(cu_seq_lens)]
        alone[1] = alone[1][: len(rows[1])]  # the pack of text alone ends with a black image
    else:
        rows = [row[mask.bool()] for row, mask in zip(logits, together["attention_mask"])]
    for row, expected in zip(rows, alone, strict=True):
        torch.testing.assert_close(row, expected, rtol=0, atol=1e-5)


def test_tile_counts_that_are_wrong_are_named(config, example):
    batch = PaddedCollator(tiny.make_processor(config), EncodingPolicy(several_images="one_tile"))(
        [example([None, None, "Q"], "A", sizes=SIZES)]
    )
    model = tiny.make_model(config)
    with pytest.raises(ValueError, match="`num_tiles` counts 1 images and `image_sizes` 2"):
        model(**{**batch, "num_tiles": [2]})
    with pytest.raises(ValueError, match="`num_tiles` says 7 for image 1"):
        model(**{**batch, "num_tiles": [1, 7]})


def test_an_unknown_rule_is_refused(tiny_processor, example):
    with pytest.raises(ValueError, match="several_images must be"):
        EncodingPolicy(several_images="pad")
