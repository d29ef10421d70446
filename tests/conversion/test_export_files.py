"""Exports are written for transformers 4.57 too (`make old-transformers` loads some there), and for llama.cpp."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors import safe_open
from transformers import AutoProcessor, LlavaConfig

from support.original_folders import write_original
from transformers_llava import OpenLlavaConfig
from transformers_llava.conversion.convert import convert_checkpoint
from transformers_llava.conversion.export import builtin_differences
from transformers_llava.conversion.export_files import rewrite_for_older_readers


SENTENCEPIECE = Path(__file__).resolve().parents[1] / "fixtures" / "text" / "llama.model"
LLAMA_3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """An original with `tokenizer.model` and positions of its own; converted, exported, and converted back."""
    root = tmp_path_factory.mktemp("exports")
    original = write_original(root / "original", rope_theta=500.0, rope_scaling=LLAMA_3).folder
    (original / "tokenizer.json").unlink()
    shutil.copyfile(SENTENCEPIECE, original / "tokenizer.model")
    settings = {"tokenizer_class": "LlamaTokenizer", "additional_special_tokens": ["<s>", "</s>"]}
    (original / "tokenizer_config.json").write_text(json.dumps(settings))
    convert_checkpoint(original, root / "ours")
    convert_checkpoint(root / "ours", root / "exported", to="builtin", check_parity=True)
    convert_checkpoint(root / "exported", root / "back", check_parity=True)
    return root


def read(path: Path):
    return json.loads(path.read_text())


def test_the_tokenizer_s_settings_are_those_that_4_57_reads(folders):
    config = read(folders / "exported" / "tokenizer_config.json")
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"  # 4.57: "TokenizersBackend does not exist"
    assert config["extra_special_tokens"] == {"image_token": "<image>"}  # 4.57: "'list' object has no attribute keys"
    assert config["additional_special_tokens"] == ["<s>", "</s>"]
    assert config["model_input_names"] == ["input_ids", "attention_mask"]  # 4.57 else adds token_type_ids
    assert not {"backend", "is_local", "local_files_only", "model_specific_special_tokens"} & set(config)
    tokenizer = AutoProcessor.from_pretrained(folders / "exported").tokenizer
    ours = AutoProcessor.from_pretrained(folders / "ours").tokenizer
    for text in ("<s>USER: <image>\nHi there</s>", "  spaces ", "é ü"):
        assert tokenizer(text).input_ids == ours(text).input_ids
    assert tokenizer.image_token == "<image>"
    assert set(tokenizer.all_special_tokens) == set(ours.all_special_tokens)


def test_positions_are_written_under_the_names_of_4_57_too(folders):
    text = read(folders / "exported" / "config.json")["text_config"]
    assert text["rope_theta"] == 500.0
    assert text["rope_scaling"] == LLAMA_3
    assert LlavaConfig.from_pretrained(folders / "exported").text_config.rope_parameters == {
        "rope_theta": 500.0,
        **LLAMA_3,
    }
    ours, back = (OpenLlavaConfig.from_pretrained(folders / name).text_config for name in ("ours", "back"))
    assert ours.rope_parameters == back.rope_parameters == {"rope_theta": 500.0, **LLAMA_3}


def test_the_image_settings_stand_in_one_file(folders):
    assert "image_processor" not in read(folders / "exported" / "processor_config.json")
    assert read(folders / "exported" / "preprocessor_config.json")["image_processor_type"] == "LlavaImageProcessor"


def test_tokenizer_model_travels_from_the_original_to_the_export_and_back(folders):
    for name in ("ours", "exported", "back"):
        assert (folders / name / "tokenizer.model").read_bytes() == SENTENCEPIECE.read_bytes()
        assert "tokenizer.model" in read(folders / name / "conversion_report.json")["files"]


def test_a_source_without_tokenizer_model_leaves_without(tmp_path):
    convert_checkpoint(write_original(tmp_path / "original").folder, tmp_path / "ours")
    assert not (tmp_path / "ours" / "tokenizer.model").exists()


@pytest.mark.parametrize(
    ("rope", "fields"),
    [
        ({"rope_type": "default", "rope_theta": 10.0}, {"rope_theta": 10.0}),
        (
            {"rope_type": "default", "rope_theta": 10.0, "partial_rotary_factor": 0.5},
            {"rope_theta": 10.0, "partial_rotary_factor": 0.5},
        ),
        ({"full_attention": {"rope_theta": 10.0}, "sliding_attention": {"rope_theta": 5.0}}, {}),
        (None, {}),
    ],
)
def test_what_4_57_has_a_field_for_gets_it(tmp_path, rope, fields):
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"rope_parameters": rope}}))
    for name in ("tokenizer_config.json", "processor_config.json"):
        (tmp_path / name).write_text("{}")
    rewrite_for_older_readers(tmp_path)
    assert read(tmp_path / "config.json")["text_config"] == {"rope_parameters": rope, **fields}


def test_what_4_57_computes_otherwise_is_said(tmp_path):
    report = convert_checkpoint(
        write_original(tmp_path / "gemma", "gemma").folder, tmp_path / "exported", to="builtin"
    )
    assert any("transformers 4" in note and "gemma" in note for note in report.notes)
    config = OpenLlavaConfig.from_pretrained(tmp_path / "gemma")
    assert any("transformers 4" in note for note in builtin_differences(config))


@pytest.mark.parametrize("name", ["ours", "exported", "back"])
def test_the_report_accounts_for_every_field_and_weight_in_every_direction(folders, name):
    report = read(folders / name / "conversion_report.json")
    source = folders / {"ours": "original", "exported": "ours", "back": "exported"}[name]
    assert set(read(source / "config.json")) <= {row["source"].split(".")[0] for row in report["config"]["fields"]}
    with safe_open(folders / name / "model.safetensors", "pt") as tensors:
        assert set(tensors.keys()) == {row["target"] for row in report["weights"] if row["target"]}
    with safe_open(source / "model.safetensors", "pt") as tensors:
        assert set(tensors.keys()) <= {row["source"] for row in report["weights"]}
    assert all(row["reason"] for row in report["weights"] if not (row["source"] and row["target"]))
    if name == "exported":
        accounted = {row["source"] for row in report["export"]["fields"]} | {
            row["target"] for row in report["export"]["fields"]
        }
        assert set(read(source / "config.json")) <= accounted
        assert set(read(folders / name / "config.json")) - {"open_llava"} <= accounted
        assert all(row["reason"] for row in report["export"]["fields"] if row["status"] != "MAPPED")
    else:
        assert report["export"] is None
