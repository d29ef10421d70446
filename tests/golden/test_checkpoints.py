"""Every recorded checkpoint gives the original's numbers: pixels, features, logits, answers, losses, gradients."""

import json

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from support.recorded_checkpoints import RecordedCase, check_answers, check_images, check_logits, relative_difference
from transformers_llava.conversion.convert import convert_checkpoint
from transformers_llava.conversion.load import load_checkpoint, load_lora_checkpoint


FULL = (
    "h_cls_patch",
    "h_identity",
    "h_mlp3x",
    "next_qwen",
    "next_qwen_siglip",
    "v1_5_llama",
    "v1_6_llama_spatial",
    "v1_6_mistral_anyres",
    "v1_linear_im_start_end",
)
WITH_BASE = ("v1_5_lora", "pretrain_projector")
TRAINED = ("h_mlp3x", "next_qwen", "pretrain_projector", "v1_5_llama", "v1_5_lora", "v1_linear_im_start_end")


@pytest.fixture(scope="module")
def loaded(golden):
    """Each checkpoint once: the full ones through the Auto classes, LoRA and projector with their base."""
    cache = {}

    def load(name: str):
        if name not in cache:
            case = RecordedCase(golden, name)
            if name in FULL:
                model, info = AutoModelForImageTextToText.from_pretrained(
                    case.checkpoint, dtype=torch.float32, output_loading_info=True
                )
                assert not any(info.values()), {kind: keys for kind, keys in info.items() if keys}
                processor = AutoProcessor.from_pretrained(case.checkpoint)
            else:
                base = golden / "checkpoints" / case.data["loaded_with"]["model_base"]
                model, processor = load_checkpoint(case.checkpoint, base=base, dtype=torch.float32)
            cache[name] = (case, model.eval(), processor)
        return cache[name]

    return load


@pytest.mark.parametrize("name", FULL + WITH_BASE)
def test_images_become_the_recorded_pixels_and_features(loaded, name):
    check_images(*loaded(name))


@pytest.mark.parametrize("name", FULL + WITH_BASE)
def test_logits_are_the_recorded_ones(loaded, name):
    check_logits(*loaded(name))


@pytest.mark.parametrize("name", FULL + WITH_BASE)
def test_greedy_answers_are_the_recorded_ones(loaded, name):
    check_answers(*loaded(name))


@pytest.mark.parametrize("name", TRAINED)
def test_loss_and_projector_gradients_are_the_recorded_ones(loaded, name):
    case, model, processor = loaded(name)
    limit = case.data["training"].get("model_max_length") or case.data["config"]["tokenizer_model_max_length"]
    batch = case.training_batch(processor, limit)
    recorded = case.data["training"]["batch"]
    assert batch["attention_mask"].sum(1).tolist() == recorded["expanded_lengths"]
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    assert abs(float(loss.detach()) - recorded["loss"]) < 1e-5 * max(1.0, recorded["loss"])
    gradients = {
        key.removeprefix("training/grad/"): value for key, value in case.tensors.items() if "training/grad/" in key
    }
    assert gradients
    for key, value in gradients.items():
        assert relative_difference(_gradient(model, key), value) < 1e-4, key


def test_the_unmerged_adapter_has_the_recorded_loss_and_gradients(golden):
    pytest.importorskip("peft")
    case = RecordedCase(golden, "v1_5_lora")
    base = golden / "checkpoints" / "base_llm_llama"
    model, processor = load_lora_checkpoint(case.checkpoint, base, merge=False, dtype=torch.float32)
    loss = model(**case.training_batch(processor, case.data["training"]["model_max_length"])).loss
    loss.backward()
    recorded = case.data["training"]["lora_unmerged"]
    assert abs(float(loss.detach()) - recorded["loss"]) < 1e-5 * recorded["loss"]
    parameters = dict(model.named_parameters())
    gradients = {key: value for key, value in case.tensors.items() if key.startswith("training/lora_grad/")}
    assert len(gradients) == 14
    for key, value in gradients.items():
        ours = key.removeprefix("training/lora_grad/").replace(".model.layers.", ".model.language_model.layers.")
        assert relative_difference(parameters[ours].grad, value) < 1e-4, key
    assert sum("lora_A" in name for name in parameters) == recorded["lora_layers_found"]


@pytest.mark.parametrize("name", FULL + WITH_BASE)
def test_the_converted_folder_is_the_same_model(loaded, golden, tmp_path, name):
    case, model, _ = loaded(name)
    base = golden / "checkpoints" / "base_llm_llama" if name in WITH_BASE else None
    report = convert_checkpoint(case.checkpoint, tmp_path / name, base=base)
    assert all(account.target or account.reason for account in report.weights)
    converted, info = AutoModelForImageTextToText.from_pretrained(
        tmp_path / name, dtype=torch.float32, output_loading_info=True
    )
    assert not any(info.values()), info
    ours, theirs = model.state_dict(), converted.state_dict()
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    saved = json.loads((tmp_path / name / "config.json").read_text())
    assert str(golden) not in json.dumps(saved)
    AutoProcessor.from_pretrained(tmp_path / name)


def _gradient(model: torch.nn.Module, key: str) -> torch.Tensor:
    """Gradient of a parameter by its name in the original."""
    from transformers_llava.conversion.weights.key_names import original_mapping

    name = original_mapping(model.config.projector_type).to_ours(key)
    return dict(model.named_parameters())[name].grad
