"""Every field of a configuration is accounted for, and what cannot be expressed is refused with the reason."""

import json

import pytest

from support.original_folders import write_original
from transformers_llava import OpenLlavaConfig
from transformers_llava.conversion.configs.layouts import convert_config, layout_of, normalize_config_dict
from transformers_llava.conversion.configs.text import text_model_type
from transformers_llava.conversion.configs.tower_lookup import counts_tower_of_checkpoint, resolve_tower


# The published llava-v1.5-7b configuration, as far as it matters.
V1_5 = {
    "_name_or_path": "llava-v1.5-7b",
    "architectures": ["LlavaLlamaForCausalLM"],
    "model_type": "llava",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
    "max_length": 4096,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "image_aspect_ratio": "pad",
    "image_grid_pinpoints": None,
    "mm_hidden_size": 1024,
    "mm_projector_type": "mlp2x_gelu",
    "mm_resampler_type": None,
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "tune_mm_mlp_adapter": False,
    "unfreeze_mm_vision_tower": False,
    "use_mm_proj": True,
    "torch_dtype": "float16",
    "transformers_version": "4.31.0",
    "some_private_field": 7,
}


def test_the_published_1_5_configuration_needs_no_network():
    config = OpenLlavaConfig.from_dict(dict(V1_5))
    assert (config.text_config.hidden_size, config.text_config.num_hidden_layers) == (4096, 32)
    assert (config.vision_config.image_size, config.vision_config.patch_size) == (336, 14)
    assert config.tiling_rule().tokens_per_tile == 576
    assert config.image_aspect_ratio == "pad"
    assert config.image_token_id == 32000


def test_every_field_is_mapped_defaulted_or_dropped_with_a_reason():
    _, report = convert_config(V1_5)
    assert set(V1_5) <= {row.source for row in report.fields} | {"dtype"}
    assert all(row.reason for row in report.fields if row.status in ("DROPPED", "DEFAULTED"))
    by_name = {row.source: row for row in report.fields if row.source}
    assert by_name["some_private_field"].status == "DROPPED"
    assert by_name["max_length"].status == "DROPPED"
    assert by_name["mm_projector_type"].target == "projector_type"
    assert by_name["hidden_size"].target == "text_config.hidden_size"
    assert {row.status for row in report.fields} == {"MAPPED", "DEFAULTED", "DROPPED"}


def test_normalizing_twice_is_normalizing_once():
    once = normalize_config_dict(dict(V1_5))
    assert normalize_config_dict(once) == once
    assert "model_type" in V1_5
    assert V1_5["model_type"] == "llava"  # the input is not changed


@pytest.mark.parametrize(
    ("config", "layout"),
    [
        ({"model_type": "open_llava"}, "open_llava"),
        ({"model_type": "llava", "text_config": {}}, "builtin"),
        ({"model_type": "llava_next", "text_config": {}, "vision_config": {}}, "builtin"),
        ({"model_type": "llava", "mm_vision_tower": "x"}, "original"),
        ({"model_type": "llama", "mm_vision_tower": "x"}, "original"),
        ({"model_type": "llava"}, None),
        ({"model_type": "llama"}, None),
    ],
)
def test_the_layout_is_told_by_keys(config, layout):
    assert layout_of(config) == layout


@pytest.mark.parametrize(
    ("config", "text_type"),
    [
        ({"architectures": ["LlavaQwenForCausalLM"], "model_type": "llava"}, "qwen2"),
        ({"architectures": ["LlavaMistralForCausalLM"], "model_type": "llava_llama"}, "mistral"),
        ({"architectures": ["LlamaForCausalLM"], "model_type": "llava_mixtral"}, "mixtral"),
        ({"architectures": ["LlavaMPTForCausalLM"]}, "mpt"),
        ({"model_type": "llava", "d_model": 8, "n_layers": 2}, "mpt"),
        ({"model_type": "llava"}, "llama"),
    ],
)
def test_architectures_decide_before_model_type(config, text_type):
    assert text_model_type(config) == text_type


def test_an_unknown_language_model_is_named():
    with pytest.raises(ValueError, match="LlavaBloomForCausalLM"):
        text_model_type({"architectures": ["LlavaBloomForCausalLM"], "model_type": "llava_bloom"})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"mm_vision_select_feature": "cls_patch"},
            {"vision_feature_select_strategy": "full", "vision_feature_layer": -2},
        ),
        # hidden states 0..24 of 24 layers, every 6th from 6 - 2
        ({"mm_vision_select_feature": "slicefour_patch"}, {"vision_feature_layer": [4, 10, 16, 22]}),
        ({"mm_vision_select_feature": "slice_m25811_f6_cls_patch"}, {"vision_feature_layer": [-2, -5, -8, -11, 6]}),
        ({"mm_projector_type": None}, {"projector_type": "linear"}),
        ({"image_aspect_ratio": None}, {"image_aspect_ratio": "square"}),
        ({"mm_patch_merge_type": None}, {"patch_merge_type": "flat"}),
        (
            {"mm_vision_tower": "google/siglip-so400m-patch14-384", "mm_vision_select_layer": -1},
            {"vision_feature_layer": -2, "vision_feature_select_strategy": "full"},
        ),
        ({"tokenizer_model_max_length": 2048}, {"max_sequence_length": 2048}),
        (
            {"image_grid_pinpoints": "[(336, 672), (672, 336)]", "image_aspect_ratio": "anyres"},
            {"image_grid_pinpoints": [[336, 672], [672, 336]]},
        ),
    ],
)
def test_fields_mean_what_the_original_reads_from_them(fields, expected):
    config = normalize_config_dict({**V1_5, **fields})
    assert {key: config[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"s2": True}, "S2"),
        ({"mm_patch_merge_type": "maxpool2x2"}, "maxpool2x2"),
        ({"image_aspect_ratio": "highres"}, "highres"),
        ({"mm_vision_select_feature": "every_patch"}, "every_patch"),
        ({"image_grid_pinpoints": "nonsense"}, "nonsense"),
    ],
)
def test_what_we_do_not_have_is_refused_with_the_reason(fields, reason):
    with pytest.raises(ValueError, match=reason):
        normalize_config_dict({**V1_5, **fields})


@pytest.mark.parametrize("where", ["beside", "inside", "absolute"])
def test_a_tower_folder_is_found_beside_inside_or_by_its_path(tmp_path, where):
    original = write_original(tmp_path / "checkpoint")
    name = {"beside": "tower", "inside": "parts/tower", "absolute": str(tmp_path / "elsewhere")}[where]
    place = {"beside": tmp_path / "tower", "inside": original.folder / name, "absolute": tmp_path / "elsewhere"}[where]
    if where != "beside":
        place.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tower").rename(place)
    tower = resolve_tower(name, original.folder)
    assert tower.is_local
    assert tower.config is not None
    assert tower.config["hidden_size"] == 24


@pytest.mark.parametrize(
    ("config", "counts"),
    [
        ({}, False),
        ({"unfreeze_mm_vision_tower": True}, True),
        ({"mm_tunable_parts": "mm_mlp_adapter,mm_vision_tower"}, True),
        ({"mm_tunable_parts": "mm_mlp_adapter", "delay_load": True}, False),
        ({"architectures": ["LlavaQwenForCausalLM"]}, True),
        ({"model_type": "llava_mixtral", "delay_load": True}, False),
    ],
)
def test_whose_tower_counts(config, counts):
    assert counts_tower_of_checkpoint(config) is counts


def test_what_the_export_keeps_comes_back():
    nested = {
        "model_type": "llava",
        "vision_config": {"image_size": 28, "patch_size": 14},
        "text_config": {"vocab_size": 320},
        "image_token_index": 260,
        "open_llava": {"image_aspect_ratio": "pad", "max_sequence_length": 448, "vocab_size": 260},
    }
    config = OpenLlavaConfig.from_dict(nested)
    assert (config.image_aspect_ratio, config.max_sequence_length, config.text_config.vocab_size) == ("pad", 448, 260)
    json.dumps(config.to_dict())


def test_tokens_added_to_an_export_since_are_not_cut_away_again():
    nested = {
        "model_type": "llava",
        "vision_config": {"image_size": 28, "patch_size": 14},
        "text_config": {"vocab_size": 384},  # someone resized the 320 rows
        "image_token_index": 260,
        "open_llava": {"image_aspect_ratio": "pad", "vocab_size": 260},
    }
    assert OpenLlavaConfig.from_dict(nested).text_config.vocab_size == 384
