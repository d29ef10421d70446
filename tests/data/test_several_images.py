"""LLaVA-NeXT's rule for examples with several pictures: one padded tile each, counted as it is encoded and trained."""

import pytest
import torch

import tiny
from transformers_llava.data.collators import PackedCollator, PaddedCollator
from transformers_llava.data.encoding import encode_example
from transformers_llava.data.lengths import TokenCounter, count_tokens


SIZES = [(90, 21), (20, 70)]


@pytest.fixture
def config():
    return tiny.make_config(
        image_aspect_ratio="anyres", image_grid_pinpoints=tiny.PINPOINTS, patch_merge_type="spatial_unpad"
    )


def test_each_of_several_pictures_is_one_tile_and_a_newline(config, example):
    processor = tiny.make_processor(config)
    encoded = encode_example(example([None, None, "Q"], "A", sizes=SIZES), processor, several_images="one_tile")
    assert encoded.pixel_values.shape[0] == 2
    assert int((encoded.input_ids == processor.image_token_id).sum()) == 2 * (4 + 1)
    assert encoded.image_sizes.tolist() == [[21, 90], [70, 20]]


@pytest.mark.parametrize("text", ["Q", "a typed <image> and </s>"])
@pytest.mark.parametrize("several_images", ["tiles", "one_tile"])
@pytest.mark.parametrize("num_images", [0, 1, 2])
def test_lengths_count_what_is_encoded(config, example, text, several_images, num_images):
    processor = tiny.make_processor(config)
    record = example([*[None] * num_images, text], "A", sizes=SIZES[:num_images])
    encoded = encode_example(record, processor, several_images=several_images)
    assert count_tokens(record, processor, several_images=several_images) == len(encoded.input_ids)


def test_a_picture_counts_anew_where_it_is_one_of_several(config, example, tmp_path, png):
    processor = tiny.make_processor(config)
    (tmp_path / "x.png").write_bytes(png(90, 21))
    one, two = example([None, "Q"], "A"), example([None, None, "Q"], "A")
    for record in (one, two):
        record["images"] = [{"bytes": None, "path": str(tmp_path / "x.png")}] * len(record["images"])
    counter = TokenCounter(processor, None, several_images="one_tile")
    assert [counter.image_costs(one), counter.image_costs(two)] == [
        [processor.num_image_tokens(90, 21)],
        [4 + 1, 4 + 1],
    ]
    assert counter.fingerprint("x") != TokenCounter(processor, None).fingerprint("x")


def test_an_untiled_checkpoint_knows_no_difference(tiny_processor, example):
    record = example([None, None, "Q"], "A", sizes=SIZES)
    one, other = (encode_example(record, tiny_processor, several_images=how) for how in ("tiles", "one_tile"))
    assert torch.equal(one.input_ids, other.input_ids)
    assert torch.equal(one.pixel_values, other.pixel_values)


def test_the_model_reads_such_a_batch(config, example):
    records = [example([None, None, "Q"], "A", sizes=SIZES), example("Q", "A")]
    batch = PaddedCollator(tiny.make_processor(config), several_images="one_tile")(records)
    with torch.no_grad():
        assert torch.isfinite(tiny.make_model(config)(**batch).loss)


def test_a_batch_that_mixes_both_is_refused_by_name(config, example):
    records = [example([None, None, "Q"], "A", sizes=SIZES, id="two"), example([None, "Q"], "A", id="one")]
    processor = tiny.make_processor(config)
    with pytest.raises(ValueError, match=r"'s/one' with one picture.*'s/two' with several"):
        PackedCollator(processor, several_images="one_tile")(records)
    PackedCollator(processor)(records)
    with pytest.raises(ValueError, match="several_images must be"):
        encode_example(records[0], processor, several_images="pad")
