"""Canvas lists keep the meaning that the reader of the checkpoint gave them."""

import pytest

from transformers_llava.conversion.configs.pinpoints import hf_pinpoints_to_ours, our_pinpoints_to_hf, parse_pinpoints
from transformers_llava.modeling.images.tiling import select_best_resolution


V1_6 = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]


def test_a_range_counts_columns_in_the_outer_loop():
    assert parse_pinpoints("(1x1),...,(2x3)", 384)[:4] == [[384, 384], [384, 768], [384, 1152], [768, 384]]
    assert len(parse_pinpoints("(1x1),...,(6x6)", 384)) == 36


def test_none_is_none_and_a_literal_is_a_list():
    assert parse_pinpoints(None, 336) is None
    assert parse_pinpoints("[[336, 672], (672, 336)]", 336) == [[336, 672], [672, 336]]


@pytest.mark.parametrize("value", ["[336", "x", [1, 2, 3], "__import__('os').system('true')"])
def test_what_is_no_list_is_refused(value):
    with pytest.raises(ValueError, match="image_grid_pinpoints"):
        parse_pinpoints(value, 336)


def test_lists_that_are_their_own_transpose_keep_the_original_s_order():
    assert hf_pinpoints_to_ours(V1_6)[0] == V1_6
    assert hf_pinpoints_to_ours([[336, 672], [336, 336]])[0] == [[672, 336], [336, 336]]


def test_exported_lists_break_ties_in_the_built_in_class_as_the_original_does():
    from transformers.image_processing_utils import select_best_resolution as built_in

    for size in [(100, 100), (300, 200), (200, 300), (336, 336), (1000, 400)]:
        width, height = select_best_resolution(size, [tuple(pair) for pair in V1_6])
        assert built_in((size[1], size[0]), our_pinpoints_to_hf(V1_6)) == (height, width)
