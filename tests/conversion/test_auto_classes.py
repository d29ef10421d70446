"""Original checkpoints load through `from_pretrained` and the Auto classes as they lie on disk."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor, LlavaConfig
from transformers import LlavaForConditionalGeneration as BuiltinLlava

from support.original_folders import write_original
from tiny import make_image
from transformers_llava import OpenLlavaConfig, OpenLlavaForConditionalGeneration
from transformers_llava.conversion.auto_classes import override_builtin_classes, register_formats
from transformers_llava.conversion.load import load_checkpoint


PROMPT = "USER: <image>\nWhat is this? ASSISTANT:"


def load(folder, **kwargs):
    model, info = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, **kwargs
    )
    assert type(model) is OpenLlavaForConditionalGeneration
    assert not any(info.values()), {kind: keys for kind, keys in info.items() if keys}
    return model.eval()


def difference_to_reference(original, model) -> float:
    processor = AutoProcessor.from_pretrained(original.folder)
    inputs = processor(images=make_image(), text=PROMPT, return_tensors="pt")
    ids, image = [], model.config.image_token_id
    for token in inputs["input_ids"][0].tolist():
        if token != image:
            ids.append(token)
        elif -200 not in ids:
            ids.append(-200)
    with torch.no_grad():
        ours = model(**inputs).logits[0]
        ours_text = model(input_ids=torch.tensor([[1, 9, 40, 7]])).logits[0]
    reference = original.logits(ids, inputs["pixel_values"])
    text = original.logits([1, 9, 40, 7])
    assert float((ours_text - text).abs().max() / text.abs().max()) < 1e-5
    return float((ours - reference).abs().max() / reference.abs().max())


@pytest.mark.parametrize("text_type", ["llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "gemma", "mpt"])
def test_each_language_model_gives_the_logits_of_its_parts(tmp_path, text_type):
    original = write_original(tmp_path / "checkpoint", text_type)
    assert difference_to_reference(original, load(original.folder)) < 1e-5


@pytest.mark.parametrize("files", ["bin", "old_bin", "sharded_bin", "sharded_safetensors"])
@pytest.mark.parametrize("tower_inside", [True, False])
def test_all_file_kinds_load_with_and_without_the_tower(tmp_path, files, tower_inside):
    original = write_original(tmp_path / "checkpoint", files=files, tower_inside=tower_inside)
    assert difference_to_reference(original, load(original.folder)) < 1e-5


@pytest.mark.parametrize("projector", ["linear", "mlp1x_gelu", "mlp3x_gelu", "mlp4x_gelu"])
def test_each_projector_loads(tmp_path, projector):
    original = write_original(tmp_path / "checkpoint", projector=projector)
    assert difference_to_reference(original, load(original.folder)) < 1e-5


@pytest.mark.parametrize("text_type", ["llama", "mixtral", "gemma", "mpt"])
def test_both_ways_in_read_the_same_bits(tmp_path, text_type):
    """`from_pretrained` and `convert` share one reader: tower, rows of the embeddings, scale of a Gemma's features."""
    original = write_original(tmp_path / "checkpoint", text_type, mm_use_im_patch_token=True)
    loaded = load(original.folder).state_dict()
    read, _ = load_checkpoint(original.folder, dtype=torch.float32)
    assert loaded["lm_head.weight"].shape[0] == 261  # one row more than the file has
    for key, tensor in read.state_dict().items():
        assert torch.equal(tensor, loaded[key]), key


def test_a_missing_projector_type_means_linear(tmp_path):
    original = write_original(tmp_path / "checkpoint", projector="linear", mm_projector_type=None)
    assert load(original.folder).config.projector_type == "linear"


def test_residual_blocks_and_pooler_find_their_places(tmp_path):
    from safetensors.torch import load_file, save_file

    original = write_original(tmp_path / "checkpoint", mm_projector_type="mlp2x_res2x_gelu")
    state = load_file(original.folder / "model.safetensors")
    for index in (3, 4):
        for name, shape in {"pre_norm": (32,), "proj.0": (32, 32), "proj.2": (32, 32)}.items():
            state[f"model.mm_projector.{index}.{name}.weight"] = torch.randn(shape)
            state[f"model.mm_projector.{index}.{name}.bias"] = torch.randn(32)
    save_file(state, original.folder / "model.safetensors", metadata={"format": "pt"})
    model = load(original.folder)
    block = model.model.multi_modal_projector.residual_blocks[1]
    assert torch.equal(block.linear_2.weight, state["model.mm_projector.4.proj.2.weight"])

    pooled = write_original(tmp_path / "pooled", projector="identity", mm_projector_type="pooler")
    state = load_file(pooled.folder / "model.safetensors")
    state |= {
        "model.mm_projector.conv_pool.weight": torch.randn(32, 24, 2, 2),
        "model.mm_projector.conv_pool.bias": torch.randn(32),
    }
    state |= {
        "model.mm_projector.proj.1.weight": torch.randn(32, 32),
        "model.mm_projector.proj.1.bias": torch.randn(32),
    }
    save_file(state, pooled.folder / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(
        load(pooled.folder).model.multi_modal_projector.linear_1.weight, state["model.mm_projector.proj.1.weight"]
    )


@pytest.mark.parametrize("text_type", ["llama", "qwen2", "mpt"])
def test_a_flat_configuration_that_says_llava_is_dispatched_by_its_architecture(tmp_path, text_type):
    original = write_original(tmp_path / "checkpoint", text_type, model_type="llava")
    config = AutoConfig.from_pretrained(original.folder)
    assert type(config) is OpenLlavaConfig
    assert (config.text_config.model_type, config.original_model_type) == (text_type, "llava")
    assert difference_to_reference(original, load(original.folder)) < 1e-5


def test_an_explicit_class_reads_the_same(tmp_path):
    original = write_original(tmp_path / "checkpoint")
    model = OpenLlavaForConditionalGeneration.from_pretrained(original.folder, dtype=torch.float32).eval()
    assert difference_to_reference(original, model) < 1e-5
    base = AutoModel.from_pretrained(original.folder)
    assert torch.equal(base.language_model.norm.weight, model.model.language_model.norm.weight)


def test_tower_in_the_checkpoint_counts_only_if_it_was_trained(tmp_path):
    """LLaVA reads the separate tower, unless its configuration says that it was trained; LLaVA-NeXT does not."""
    for fields, counts in (
        ({}, False),
        ({"unfreeze_mm_vision_tower": True}, True),
        ({"mm_tunable_parts": "mm_vision_tower"}, True),
    ):
        original = write_original(tmp_path / "a" / "checkpoint", seed=1, **fields)
        write_original(tmp_path / "b" / "other", seed=2)
        (tmp_path / "a" / "tower" / "model.safetensors").write_bytes(
            (tmp_path / "b" / "tower" / "model.safetensors").read_bytes()
        )
        weight = load(original.folder).model.vision_tower.embeddings.patch_embedding.weight
        assert torch.equal(weight, original.tower.state_dict()[_patch_key(original)]) is counts, fields
    newer = write_original(tmp_path / "a" / "next", "qwen2", seed=1, tower_beside=False)
    assert torch.equal(
        load(newer.folder).model.vision_tower.embeddings.patch_embedding.weight,
        newer.tower.state_dict()[_patch_key(newer)],
    )


def _patch_key(original) -> str:
    return next(key for key in original.tower.state_dict() if key.endswith("patch_embedding.weight"))


def test_a_tower_that_is_nowhere_is_named_with_its_remedy(tmp_path):
    original = write_original(tmp_path / "checkpoint", tower_inside=False, mm_vision_tower="nobody/knows-this-tower")
    with pytest.raises(ValueError, match=r"nobody/knows-this-tower.*--vision_tower"):
        AutoConfig.from_pretrained(original.folder)


def test_embeddings_follow_the_tokenizer_as_the_original_resizes_them(tmp_path):
    padded = write_original(tmp_path / "checkpoint", mm_use_im_patch_token=None)
    model = load(padded.folder)
    assert model.get_input_embeddings().weight.shape[0] == 261  # a missing mm_use_im_patch_token counts as true
    assert model.config.image_token_id == 261


def test_settings_of_generation_do_not_leak_from_the_flat_configuration(tmp_path):
    model = load(write_original(tmp_path / "checkpoint", temperature=0.1).folder)
    assert model.generation_config.max_length in (None, 20)
    assert model.generation_config.temperature in (None, 1.0)
    assert "max_length" not in json.loads(model.config.to_json_string(use_diff=False))["text_config"]


def test_built_in_llava_stays_what_it_is(tmp_path):
    register_formats()
    assert type(AutoConfig.for_model("llava")) is LlavaConfig
    small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model(
        "llava",
        vision_config={"model_type": "clip_vision_model", "image_size": 28, "patch_size": 14, **small},
        text_config={"model_type": "llama", "vocab_size": 64, **small},
        image_token_index=63,
    )
    assert type(config) is LlavaConfig
    model = BuiltinLlava(config)
    model.save_pretrained(tmp_path / "builtin")
    assert json.loads((tmp_path / "builtin" / "config.json").read_text())["model_type"] == "llava"
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "builtin")
    assert type(again) is BuiltinLlava
    assert type(again.config) is LlavaConfig
    assert type(LlavaConfig.from_pretrained(tmp_path / "builtin")) is LlavaConfig
    assert type(LlavaConfig.from_dict(config.to_dict())) is LlavaConfig
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )
    # nested configurations whose sub-configurations were left out are the built-in's too
    (tmp_path / "builtin" / "config.json").write_text(json.dumps({"model_type": "llava", "image_token_index": 5}))
    assert type(AutoConfig.from_pretrained(tmp_path / "builtin")) is LlavaConfig


def test_installing_twice_adds_nothing():
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from transformers_llava.modeling.processing_open_llava import OpenLlavaProcessor

    register_formats()
    before = (
        CONFIG_MAPPING._extra_content["llava"],
        len(OpenLlavaConfig.dict_normalizers),
        len(OpenLlavaProcessor.fallback_builders),
    )
    register_formats()
    after = (
        CONFIG_MAPPING._extra_content["llava"],
        len(OpenLlavaConfig.dict_normalizers),
        len(OpenLlavaProcessor.fallback_builders),
    )
    assert before == after


def test_override_builtin_classes_is_explicit_and_can_be_undone(tmp_path):
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING, PROCESSOR_MAPPING_NAMES

    before = (
        dict(CONFIG_MAPPING._extra_content),
        dict(PROCESSOR_MAPPING_NAMES),
        dict(PROCESSOR_MAPPING._extra_content),
    )
    undo = override_builtin_classes()
    undo()
    assert before == (
        dict(CONFIG_MAPPING._extra_content),
        dict(PROCESSOR_MAPPING_NAMES),
        dict(PROCESSOR_MAPPING._extra_content),
    )


def test_a_weight_that_is_changed_while_it_is_read_is_offloaded_as_changed(tmp_path):
    """transformers reads offloaded weights from the checkpoint itself, where a Gemma's features have another scale."""
    original = write_original(tmp_path / "checkpoint", "gemma")
    on_disk = dict.fromkeys(("model.vision_tower", "model.language_model", "lm_head"), "cpu")
    on_disk["model.multi_modal_projector"] = "disk"
    offloaded = load(original.folder, device_map=on_disk, offload_folder=tmp_path / "offloaded")
    pixels = torch.ones(1, 3, 28, 28)
    with torch.no_grad():
        expected, actual = (
            torch.cat(list(model.get_image_features(pixels).pooler_output))
            for model in (load(original.folder), offloaded)
        )
    assert torch.equal(expected, actual)


@pytest.mark.parametrize("options", [{}, {"device_map": "cpu"}, {"dtype": torch.bfloat16}, {"dtype": "auto"}])
def test_a_checkpoint_without_its_tower_loads_with_every_option(tmp_path, options):
    original = write_original(tmp_path / "checkpoint", tower_inside=False, files="sharded_bin")
    model, info = AutoModelForImageTextToText.from_pretrained(original.folder, output_loading_info=True, **options)
    assert not any(info.values())
    assert not any(parameter.is_meta for parameter in model.parameters())
    dtypes = {parameter.dtype for parameter in model.parameters()}
    assert dtypes == {torch.bfloat16 if options.get("dtype") is torch.bfloat16 else torch.float32}


def test_a_hostile_pickle_is_refused_by_from_pretrained_and_not_run(tmp_path):
    original = write_original(tmp_path / "checkpoint", files="bin")

    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "trace"), "w"))

    torch.save({"model.norm.weight": Hostile()}, original.folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="refused and nothing of it was run"):
        AutoModelForImageTextToText.from_pretrained(original.folder)
    assert not (tmp_path / "trace").exists()
