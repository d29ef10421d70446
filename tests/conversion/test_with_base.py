"""LoRA, stage-1 projector and delta with their base give the weights that peft, or a plain sum, gives."""

import json

import pytest
import torch
from safetensors.torch import load_file

from support.original_folders import original_text_state, write_files, write_original
from transformers_llava.conversion.convert import extract_projector
from transformers_llava.conversion.load import load_checkpoint, load_lora_checkpoint
from transformers_llava.conversion.opened_checkpoint import open_checkpoint
from transformers_llava.conversion.weights.lora_settings import check_lora_settings


QUERY = "model.layers.1.self_attn.q_proj"


@pytest.fixture
def base(tmp_path):
    """A plain language model folder `base`, and the checkpoint that it was taken from."""
    original = write_original(tmp_path / "whole")
    folder = tmp_path / "base"
    folder.mkdir()
    write_files(original_text_state(original.text, "llama"), folder, "sharded_bin")
    original.text.config.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((original.folder / name).read_bytes())
    return original, folder


def write_lora(folder, original, **config):
    folder.mkdir()
    torch.manual_seed(5)
    adapter = {
        f"base_model.model.{QUERY}.lora_A.weight": torch.randn(4, 32),
        f"base_model.model.{QUERY}.lora_B.weight": torch.randn(32, 4),
    }
    torch.save(adapter, folder / "adapter_model.bin")
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "none", **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    projector = {
        f"base_model.model.model.mm_projector.{2 * i}.{name}": tensor
        for i, pair in enumerate(original.projector)
        for name, tensor in zip(("weight", "bias"), pair, strict=True)
    }
    torch.save(projector, folder / "non_lora_trainables.bin")
    (folder / "config.json").write_bytes((original.folder / "config.json").read_bytes())
    return adapter


def query(model) -> torch.Tensor:
    return model.model.language_model.layers[1].self_attn.q_proj.weight


def test_lora_adds_its_scaled_product_and_brings_the_projector(tmp_path, base):
    original, base_folder = base
    adapter = write_lora(tmp_path / "adapter", original)
    model, processor = load_lora_checkpoint(tmp_path / "adapter", base_folder, dtype=torch.float32)
    down, up = adapter.values()
    before = original.text.model.layers[1].self_attn.q_proj.weight
    assert torch.allclose(query(model), before + 2.0 * up @ down, atol=1e-6)
    assert torch.equal(model.model.multi_modal_projector.linear_2.weight, original.projector[1][0])
    assert processor.tokenizer.convert_tokens_to_ids("<image>") == model.config.image_token_id


def test_a_folder_named_lora_without_an_adapter_is_an_ordinary_checkpoint(tmp_path):
    original = write_original(tmp_path / "llava-lora-mpt-v1.6")
    assert open_checkpoint(original.folder).kind == "original"


def test_the_adapter_s_configuration_names_the_base(tmp_path, base):
    original, _ = base
    write_lora(tmp_path / "adapter", original, base_model_name_or_path="base")
    assert open_checkpoint(tmp_path / "adapter").kind == "lora"
    write_lora(tmp_path / "lost", original, base_model_name_or_path="nobody/has-this")
    with pytest.raises(ValueError, match=r"nobody/has-this.*--base"):
        open_checkpoint(tmp_path / "lost")


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"lora_alpha": 16}, 4.0),
        ({"lora_alpha": 16, "use_rslora": True}, 8.0),
        ({"lora_alpha": 16, "alpha_pattern": {"q_proj": 2}}, 0.5),
        ({"lora_alpha": 16, "alpha_pattern": {"k_proj": 2}}, 4.0),
    ],
)
def test_the_scale_follows_peft(config, scale):
    assert check_lora_settings(config, "a test").scale(QUERY, 4) == scale


@pytest.mark.parametrize(
    ("config", "reason"),
    [({"use_dora": True}, "use_dora=True"), ({"bias": "all"}, "bias='all'"), ({"peft_type": "IA3"}, "IA3")],
)
def test_what_is_no_plain_lora_is_refused(tmp_path, base, config, reason):
    original, base_folder = base
    write_lora(tmp_path / "adapter", original, **config)
    with pytest.raises(ValueError, match=reason):
        open_checkpoint(tmp_path / "adapter", base=base_folder)


def test_an_intermediate_lora_checkpoint_lacks_its_projector_and_says_so(tmp_path, base):
    original, base_folder = base
    write_lora(tmp_path / "adapter", original)
    (tmp_path / "adapter" / "non_lora_trainables.bin").unlink()
    with pytest.raises(ValueError, match="non_lora_trainables"):
        open_checkpoint(tmp_path / "adapter", base=base_folder)


def test_a_projector_joins_its_language_model_and_tower(tmp_path, base):
    original, base_folder = base
    extract_projector(original.folder, tmp_path / "stage1" / "mm_projector.bin")
    (tmp_path / "stage1" / "config.json").write_bytes((original.folder / "config.json").read_bytes())
    model, _ = load_checkpoint(tmp_path / "stage1", base=base_folder, dtype=torch.float32)
    whole, _ = load_checkpoint(original.folder, dtype=torch.float32)
    wanted = whole.state_dict()
    assert all(torch.equal(tensor, wanted[key]) for key, tensor in model.state_dict().items())
    with pytest.raises(ValueError, match="only a projector"):
        open_checkpoint(tmp_path / "stage1")


def test_a_projector_may_bring_the_rows_of_its_added_tokens(tmp_path, base):
    original, base_folder = base
    rows = torch.randn(2, 32)
    file = tmp_path / "stage1" / "mm_projector.bin"
    extract_projector(original.folder, file)
    projector = torch.load(file, weights_only=True)
    assert set(projector) == {f"model.mm_projector.{i}.{name}" for i in (0, 2) for name in ("weight", "bias")}
    torch.save({**projector, "model.embed_tokens.weight": rows}, file)
    config = json.loads((original.folder / "config.json").read_text())
    (tmp_path / "stage1" / "config.json").write_text(json.dumps({**config, "mm_use_im_start_end": True}))
    model, processor = load_checkpoint(tmp_path / "stage1", base=base_folder, dtype=torch.float32)
    start = processor.tokenizer.convert_tokens_to_ids("<im_start>")
    assert start == 260
    assert torch.equal(model.get_input_embeddings().weight[start : start + 2], rows)


def test_delta_weights_are_added_and_larger_tables_grow_at_the_end(tmp_path, base):
    original, base_folder = base
    whole = load_file(original.folder / "model.safetensors")
    text = original_text_state(original.text, "llama")
    delta = {key: value - text[key] if key in text else value for key, value in whole.items()}
    delta["model.embed_tokens.weight"] = torch.cat([delta["model.embed_tokens.weight"], torch.ones(1, 32)])
    delta["lm_head.weight"] = torch.cat([delta["lm_head.weight"], torch.ones(1, 32)])
    write_files(delta, original.folder)
    config = json.loads((original.folder / "config.json").read_text())
    config |= {"vocab_size": 261, "mm_use_im_patch_token": True}
    (original.folder / "config.json").write_text(json.dumps(config))
    model, _ = load_checkpoint(original.folder, base=base_folder, dtype=torch.float32)
    assert torch.allclose(model.lm_head.weight[:260], whole["lm_head.weight"], atol=1e-6)
    assert torch.equal(model.lm_head.weight[260], torch.ones(32))
    assert torch.allclose(query(model), whole[f"{QUERY}.weight"], atol=1e-6)


def test_a_delta_of_another_model_is_refused(tmp_path, base):
    original, base_folder = base
    state = load_file(original.folder / "model.safetensors")
    del state["model.layers.1.mlp.up_proj.weight"]
    write_files(state, original.folder)
    with pytest.raises(ValueError, match="up_proj"):
        open_checkpoint(original.folder, base=base_folder)


def test_the_projector_leaves_under_either_name(tmp_path):
    original = write_original(tmp_path / "checkpoint", projector="mlp3x_gelu")
    names = extract_projector(original.folder, tmp_path / "projector.safetensors")
    assert names[0] == "model.multi_modal_projector.linear_1.bias"
    written = load_file(tmp_path / "projector.safetensors")
    assert torch.equal(written["model.multi_modal_projector.linear_3.weight"], original.projector[2][0])
    with pytest.raises(ValueError, match=r"\.pt"):
        extract_projector(original.folder, tmp_path / "projector.pt")
