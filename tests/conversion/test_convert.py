"""A conversion accounts for everything, appears complete or not at all, and its folder loads with one line."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from support.original_folders import write_original
from transformers_llava import OpenLlavaForConditionalGeneration, OpenLlavaProcessor
from transformers_llava.cli.main import main
from transformers_llava.conversion.convert import convert_checkpoint
from transformers_llava.conversion.parity import check_parity


@pytest.fixture
def original(tmp_path):
    return write_original(tmp_path / "original")


def edit_state(folder, **changes):
    """Changes tensors of a checkpoint; `None` removes one."""
    state = load_file(folder / "model.safetensors")
    for key, value in changes.items():
        if value is None:
            del state[key]
        else:
            state[key] = value
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def test_every_source_key_is_mapped_or_dropped_with_a_reason(tmp_path, original):
    edit_state(
        original.folder,
        **{
            "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
            "model.vision_resampler.pool.weight": torch.ones(2),
        },
    )
    report = convert_checkpoint(original.folder, tmp_path / "ours")
    accounted = {account.source for account in report.weights}
    assert set(load_file(original.folder / "model.safetensors")) <= accounted
    assert all((account.target is None) == bool(account.reason) for account in report.weights)
    written = set(load_file(tmp_path / "ours" / "model.safetensors"))
    assert written == {account.target for account in report.weights if account.target}
    saved = json.loads((tmp_path / "ours" / "conversion_report.json").read_text())
    assert saved["weights"][0].keys() == {"source", "target", "reason"}
    assert str(tmp_path) not in json.dumps(saved)
    assert "computed from the configuration" in str(report)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model.something_else.weight": torch.ones(2)}, "something_else"),
        ({"model.layers.0.mlp.up_proj.weight": None}, "up_proj.weight is missing"),
        ({"model.mm_projector.0.weight": torch.ones(3, 3)}, r"\(3, 3\)"),
    ],
)
def test_a_key_too_many_too_few_or_of_another_shape_stops_the_conversion(tmp_path, original, changes, named):
    edit_state(original.folder, **changes)
    with pytest.raises(ValueError, match=named):
        convert_checkpoint(original.folder, tmp_path / "ours")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["original", "tower"]


def test_a_failure_half_way_leaves_nothing(tmp_path, original, monkeypatch):
    def break_down(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(OpenLlavaProcessor, "save_pretrained", break_down)
    with pytest.raises(OSError, match="disk full"):
        convert_checkpoint(original.folder, tmp_path / "ours")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["original", "tower"]


def test_a_target_with_something_in_it_is_not_touched(tmp_path, original):
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "precious.txt").write_text("keep")
    with pytest.raises(ValueError, match="not an empty folder"):
        convert_checkpoint(original.folder, tmp_path / "ours")
    assert [path.name for path in (tmp_path / "ours").iterdir()] == ["precious.txt"]


def test_an_empty_target_is_used_and_load_save_load_keeps_every_tensor(tmp_path, original):
    (tmp_path / "ours").mkdir()
    convert_checkpoint(original.folder, tmp_path / "ours", max_shard_size="40KB")
    assert (tmp_path / "ours" / "model.safetensors.index.json").is_file()
    first = AutoModelForImageTextToText.from_pretrained(tmp_path / "ours", dtype=torch.float32)
    assert type(first) is OpenLlavaForConditionalGeneration
    first.save_pretrained(tmp_path / "saved")
    second = AutoModelForImageTextToText.from_pretrained(tmp_path / "saved", dtype=torch.float32)
    again = second.state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in first.state_dict().items())
    processor = AutoProcessor.from_pretrained(tmp_path / "ours")
    assert type(processor) is OpenLlavaProcessor
    assert processor.chat_template


def test_an_original_that_was_loaded_and_saved_is_the_converted_one(tmp_path, original):
    model = AutoModelForImageTextToText.from_pretrained(original.folder)
    model.save_pretrained(tmp_path / "saved")
    convert_checkpoint(original.folder, tmp_path / "converted")
    names = {"model.safetensors"}
    saved, converted = (load_file(tmp_path / folder / name) for folder in ("saved", "converted") for name in names)
    assert set(saved) == set(converted)
    assert all(torch.equal(saved[key], converted[key]) for key in saved)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "saved")
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)


def test_weights_can_be_cast(tmp_path, original):
    convert_checkpoint(original.folder, tmp_path / "ours", dtype="bfloat16")
    assert {tensor.dtype for tensor in load_file(tmp_path / "ours" / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["dtype"] == "bfloat16"
    with pytest.raises(ValueError, match="int8"):
        convert_checkpoint(original.folder, tmp_path / "other", dtype="int8")


def test_the_template_can_be_chosen_by_name(tmp_path, original):
    convert_checkpoint(original.folder, tmp_path / "ours", template="llava_llama_2")
    processor = AutoProcessor.from_pretrained(tmp_path / "ours")
    messages = [{"role": "user", "content": "Hi"}]
    assert "[INST]" in processor.apply_chat_template(messages, add_generation_prompt=True)
    with pytest.raises(ValueError, match="no conversation template 'klingon'"):
        convert_checkpoint(original.folder, tmp_path / "other", template="klingon")


def test_generation_config_has_ids_and_no_length(tmp_path, original):
    stored = {"bos_token_id": 1, "eos_token_id": [2, 5], "max_length": 4096, "temperature": 0.9}
    (original.folder / "generation_config.json").write_text(json.dumps(stored))
    convert_checkpoint(original.folder, tmp_path / "ours")
    config = GenerationConfig.from_pretrained(tmp_path / "ours")
    assert (config.bos_token_id, config.eos_token_id, config.max_length) == (1, [2, 5], None)
    assert config.pad_token_id is not None


def test_parity_of_a_cast_conversion_shows_the_conversion_and_not_the_rounding(tmp_path, original):
    report = convert_checkpoint(original.folder, tmp_path / "half", dtype="bfloat16", check_parity=True)
    assert report.parity is not None
    assert report.parity.passed
    with pytest.raises(ValueError, match="dtype='int8' is no floating-point type"):
        convert_checkpoint(original.folder, tmp_path / "int", dtype="int8")


def test_parity_reports_what_differs(tmp_path, original):
    report = convert_checkpoint(original.folder, tmp_path / "ours", check_parity=True)
    assert report.parity is not None
    assert report.parity.passed
    assert json.loads((tmp_path / "ours" / "conversion_report.json").read_text())["parity"]["passed"] is True
    state = load_file(tmp_path / "ours" / "model.safetensors")
    state["model.multi_modal_projector.linear_1.bias"] += 1.0
    save_file(state, tmp_path / "ours" / "model.safetensors", metadata={"format": "pt"})
    broken = check_parity(original.folder, tmp_path / "ours", prompts=["What is it?"])
    assert not broken.passed
    with_image, text_only = broken.cases[0], broken.cases[-1]
    assert with_image.features > 1e-3
    assert with_image.pixels == 0.0
    assert text_only.passed
    assert "DIFF" in str(broken)


def test_with_code_loads_where_the_package_is_installed_but_not_imported(tmp_path, original):
    convert_checkpoint(original.folder, tmp_path / "ours", with_code=True)
    code = f"""
import sys
from transformers import AutoModelForImageTextToText, AutoProcessor
assert "transformers_llava" not in sys.modules
processor = AutoProcessor.from_pretrained({str(tmp_path / "ours")!r}, trust_remote_code=True)
model = AutoModelForImageTextToText.from_pretrained({str(tmp_path / "ours")!r}, trust_remote_code=True)
print("classes:", type(model).__module__, type(processor).__name__)
model.save_pretrained({str(tmp_path / "saved")!r})
"""
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    # An installed DeepSpeed writes to stdout too, whenever it happens to be imported.
    assert "classes: transformers_llava.modeling.modeling_open_llava OpenLlavaProcessor\n" in done.stdout
    assert "auto_map" not in (tmp_path / "saved" / "config.json").read_text()
    absent = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "transformers_llava":
            raise ModuleNotFoundError("No module named 'transformers_llava'", name=name)
sys.meta_path.insert(0, Absent())
"""
    failed = run(absent + code, tmp_path)
    assert failed.returncode != 0
    assert "pip install transformers_llava" in failed.stderr


def run(code: str, tmp_path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


def test_with_code_makes_no_sense_for_a_built_in_target(tmp_path, original):
    with pytest.raises(ValueError, match="with_code"):
        convert_checkpoint(original.folder, tmp_path / "ours", to="builtin", with_code=True)


def test_a_complete_checkpoint_of_ours_takes_no_base(tmp_path, original):
    convert_checkpoint(original.folder, tmp_path / "ours")
    with pytest.raises(ValueError, match="base"):
        convert_checkpoint(tmp_path / "ours", tmp_path / "again", base=original.folder)


def test_the_command_prints_the_report_and_fails_without_a_traceback(tmp_path, original, capsys):
    assert main(["convert", str(original.folder), str(tmp_path / "ours"), "--check_parity"]) == 0
    printed = capsys.readouterr().out
    assert "mapped" in printed
    assert "parity:  passed" in printed
    assert main(["convert", str(original.folder), str(tmp_path / "ours")]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert main(["convert", str(original.folder), str(tmp_path / "projector.bin"), "--to", "projector"]) == 0
    assert (tmp_path / "projector.bin").is_file()


def test_nothing_of_a_machine_is_written(tmp_path, original):
    convert_checkpoint(original.folder, tmp_path / "ours")
    for file in (tmp_path / "ours").iterdir():
        if file.suffix in (".json", ".jinja", ".py"):
            assert str(tmp_path) not in file.read_text(), file.name
