"""Name tables map each key to one place and back to itself."""

import pytest

from transformers_llava.conversion.weights.key_names import (
    CLASSIC,
    NESTED,
    detect_mapping,
    drop_reason,
    loading_rules,
    original_mapping,
    projector_rows,
)


PAIRS = {
    "model.embed_tokens.weight": "model.language_model.embed_tokens.weight",
    "model.layers.3.self_attn.q_proj.bias": "model.language_model.layers.3.self_attn.q_proj.bias",
    "model.norm.weight": "model.language_model.norm.weight",
    "lm_head.weight": "lm_head.weight",
    "model.image_newline": "model.image_newline",
    "model.mm_projector.0.weight": "model.multi_modal_projector.linear_1.weight",
    "model.mm_projector.2.bias": "model.multi_modal_projector.linear_2.bias",
    "model.mm_projector.4.bias": "model.multi_modal_projector.linear_3.bias",
    "model.vision_tower.vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight": (
        "model.vision_tower.encoder.layers.0.mlp.fc1.weight"
    ),
}


@pytest.mark.parametrize(("theirs", "ours"), PAIRS.items())
def test_original_names_read_in_both_directions(theirs, ours):
    mapping = original_mapping("mlp3x_gelu")
    assert mapping.to_ours(theirs) == ours
    assert mapping.from_ours(ours) == theirs


def test_mpt_keeps_its_parts_under_transformer():
    mapping = original_mapping("mlp2x_gelu", "transformer")
    assert mapping.to_ours("transformer.blocks.0.attn.Wqkv.weight") == "model.language_model.blocks.0.attn.Wqkv.weight"
    assert mapping.to_ours("transformer.mm_projector.2.weight") == "model.multi_modal_projector.linear_2.weight"


@pytest.mark.parametrize(
    ("projector_type", "indices"),
    [
        ("linear", ["weight", "bias"]),
        ("mlp1x_gelu", ["0."]),
        ("mlp4x_gelu", ["0.", "2.", "4.", "6."]),
        ("identity", []),
    ],
)
def test_projector_rows_follow_its_depth(projector_type, indices):
    assert [theirs for theirs, _ in projector_rows(projector_type)] == indices


def test_residual_blocks_come_right_after_the_last_linear_layer():
    rows = dict(projector_rows("mlp3x_res2x_gelu"))
    assert rows["5.pre_norm."] == "model.multi_modal_projector.residual_blocks.0.pre_norm."
    assert rows["6.proj.2."] == "model.multi_modal_projector.residual_blocks.1.linear_2."


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (
            "language_model.model.layers.0.input_layernorm.weight",
            "model.language_model.layers.0.input_layernorm.weight",
        ),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("vision_tower.vision_model.post_layernorm.bias", "model.vision_tower.post_layernorm.bias"),
        ("multi_modal_projector.linear_1.weight", "model.multi_modal_projector.linear_1.weight"),
        ("image_newline", "model.image_newline"),
    ],
)
def test_classic_names_read_in_both_directions(theirs, ours):
    assert CLASSIC.to_ours(theirs) == ours
    assert CLASSIC.from_ours(ours) == theirs


def test_the_layout_is_told_by_the_keys():
    assert detect_mapping(["language_model.model.norm.weight"], "mlp2x_gelu") is CLASSIC
    assert detect_mapping(["model.language_model.norm.weight", "lm_head.weight"], "mlp2x_gelu") is NESTED
    assert detect_mapping(["model.norm.weight", "lm_head.weight"], "mlp2x_gelu").name == "original"


@pytest.mark.parametrize("names", [PAIRS, {ours: ours for ours in PAIRS.values()}])
def test_the_loader_s_rules_say_the_same_as_the_tables(names):
    for source, ours in names.items():
        key = source
        for rule in loading_rules():
            key, _ = rule.rename_source_key(key)
        # the tower's own `vision_model.` is taken away by transformers' rule for CLIP
        assert key.replace("vision_tower.vision_model.", "vision_tower.") == ours


def test_keys_that_are_left_out_have_a_reason():
    assert drop_reason("model.layers.0.self_attn.rotary_emb.inv_freq")
    assert drop_reason("model.vision_resampler.pool.weight")
    assert drop_reason("model.layers.0.mlp.up_proj.weight") is None
