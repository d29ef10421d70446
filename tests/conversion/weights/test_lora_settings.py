"""Adapters that are accepted merge as peft merges them; every other setting is refused by name and value."""

import dataclasses
import json
import time

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from support.original_folders import original_text_state, write_files, write_original
from transformers_llava.conversion.weights.lora import merge_lora, write_peft_adapter
from transformers_llava.conversion.weights.lora_settings import ALLOWED, check_lora_settings, read_lora_settings
from transformers_llava.conversion.weights.tensor_files import open_state


MODULES = ["q_proj", "down_proj"]
ACCEPTED = {
    "plain": {},
    "alpha and rank": {"r": 6, "lora_alpha": 5},
    "rslora": {"use_rslora": True, "lora_alpha": 12},
    "rank_pattern": {"rank_pattern": {"q_proj": 2, r"layers\.0\.mlp\.down_proj": 6}},
    "alpha_pattern": {"alpha_pattern": {r"layers\.1\..*q_proj": 3, "down_proj": 32}},
    "both patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 3}, "use_rslora": True},
    "some layers": {"layers_to_transform": [1], "layers_pattern": "layers"},
    "excluded": {"exclude_modules": ["layers.0.self_attn.q_proj"]},
    "gaussian": {"init_lora_weights": "gaussian"},
    "none": {"init_lora_weights": False},
    "eva": {"init_lora_weights": "eva"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "dropout": {"lora_dropout": 0.3},
}
REFUSED = {
    "pissa": {"init_lora_weights": "pissa"},
    "pissa, fast": {"init_lora_weights": "pissa_niter_4"},
    "olora": {"init_lora_weights": "olora"},
    "loftq": {"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}},
    "dora": {"use_dora": True},
    "bias": {"bias": "all"},
    "lora_bias": {"lora_bias": True},
    "alora": {"alora_invocation_tokens": [5, 6]},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    root = tmp_path_factory.mktemp("lora")
    original = write_original(root / "whole")
    folder = root / "base"
    folder.mkdir()
    write_files(original_text_state(original.text, "llama"), folder)
    original.text.config.save_pretrained(folder)
    return folder


def save_adapter(base, folder, **settings):
    """An adapter that real peft has made and saved, with weights as after some training."""
    torch.manual_seed(0)
    fields = {"r": 4, "lora_alpha": 8, "target_modules": MODULES, **settings}
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**fields))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(folder)
    torch.save({"base_model.model.model.mm_projector.0.weight": torch.ones(1)}, folder / "non_lora_trainables.bin")
    return model


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_accepted_merges_as_peft_merges_it(tmp_path, base, name):
    trained = save_adapter(base, tmp_path, **ACCEPTED[name]).merge_and_unload().state_dict()
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path).merge_and_unload()
    merged = merge_lora(open_state(base), tmp_path)
    changed = 0
    for key, before in open_state(base).items():
        tensor = merged[key].read()
        assert torch.allclose(tensor, trained[key], atol=1e-6), key
        assert torch.allclose(tensor, loaded.state_dict()[key], atol=1e-6), key
        changed += not torch.equal(tensor, before.read())
    assert changed >= 2


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_plain_sum_is_refused_by_name_and_value(tmp_path, base, name):
    settings = REFUSED[name]
    if name in ("loftq", "alora"):  # these need more than this machine has to be made; their file alone decides
        save_adapter(base, tmp_path)
        config = json.loads((tmp_path / "adapter_config.json").read_text())
        (tmp_path / "adapter_config.json").write_text(json.dumps(config | settings))
    else:
        save_adapter(base, tmp_path, **settings)
    field, value = next(iter(settings.items()))
    with pytest.raises(ValueError, match=r"not known to be a plain LoRA") as error:
        merge_lora(open_state(base), tmp_path)
    assert f"{field}={value!r}" in str(error.value)
    with pytest.raises(ValueError, match=field):
        write_peft_adapter(tmp_path, tmp_path / "again")


def test_every_field_of_the_installed_peft_is_known_or_refused_when_set():
    defaults = LoraConfig(peft_type="LORA").to_dict() | {"runtime_config": None}
    assert len(defaults) > 35
    check_lora_settings(json.loads(json.dumps(defaults, default=str)), "peft's defaults")
    names = {field.name for field in dataclasses.fields(LoraConfig)}
    assert set(ALLOWED) <= names  # a field that peft has renamed would be allowed for nothing
    for name in names - set(ALLOWED):
        for value in (True, 1, "x", [1], {"a": 1}):
            with pytest.raises(ValueError, match=name):
                check_lora_settings(defaults | {name: value}, "a test")


def test_a_field_that_peft_has_not_yet_is_refused_until_it_is_known():
    assert check_lora_settings({"r": 4, "new_in_2027": None, "other": False}, "a test").alpha == 8
    with pytest.raises(ValueError, match="new_in_2027='on'"):
        check_lora_settings({"r": 4, "new_in_2027": "on"}, "a test")


@pytest.mark.parametrize(
    "wrong",
    [
        {"r": 0},
        {"r": "8"},
        {"lora_alpha": float("nan")},
        {"lora_alpha": 0},
        {"alpha_pattern": [1]},
        {"alpha_pattern": {"q_proj": "x"}},
        {"alpha_pattern": {"(": 1}},
        {"alpha_pattern": {"(a+)+$": 1}},
        {"alpha_pattern": {"x" * 201: 1}},
        {"base_model_name_or_path": 5},
        {"use_rslora": "yes"},
        {"megatron_core": "evil"},
        {"init_lora_weights": 1},
    ],
)
def test_values_of_another_kind_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        check_lora_settings(wrong, "a test")


def test_no_pattern_takes_long_to_match():
    started = time.process_time()
    accepted = 0
    for pattern in (
        "(a+)+$",
        "(.*)*",
        "(?:a|aa)+",
        ".*.*.*.*.*.*.*.*.*x",
        "(x+x+)+y",
        r"layers\.\d+\..*q_proj",
        ".*a.*b.*c",
    ):
        try:
            settings = check_lora_settings({"alpha_pattern": {pattern: 2}}, "a test")
        except ValueError:
            continue
        accepted += 1
        settings.scale("model.layers.0." + "a" * 60 + "!", 4)
    assert accepted == 2
    assert time.process_time() - started < 5


@pytest.mark.parametrize("text", ["[1]", "{", '"x"', ""])
def test_a_file_that_is_no_mapping_is_named(tmp_path, text):
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(ValueError, match=r"adapter_config\.json"):
        read_lora_settings(tmp_path)
