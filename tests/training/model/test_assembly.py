"""Parts to one model."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, SiglipVisionModel

import tiny
from transformers_llava.training.model.assembly import load_model, load_processor
from transformers_llava.training.recipe.configs import ModelConfig
from transformers_llava.training.recipe.recipe_error import RecipeError


def config_of(parts: Path, **overrides: object) -> ModelConfig:
    folders = {name: str(parts / name) for name in ("language_model", "vision_tower")}
    return ModelConfig(**{f"{name}_name_or_path": folder for name, folder in folders.items()} | overrides)


def test_the_projector_depends_on_the_seed_alone(parts: Path) -> None:
    first, _ = load_model(config_of(parts), seed=3)
    torch.randn(7)
    again, _ = load_model(config_of(parts), seed=3)
    other, _ = load_model(config_of(parts), seed=4)
    weights = [m.model.multi_modal_projector.linear_1.weight for m in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    bound = weights[0].shape[1] ** -0.5  # torch's own initialisation, as in the original
    assert 0.9 * bound < weights[0].abs().max() <= bound


def test_the_image_token_needs_no_row(parts: Path) -> None:
    model, processor = load_model(config_of(parts), seed=0)
    assert model.get_input_embeddings().weight.shape[0] == 260
    assert processor.image_token_id == model.config.image_token_id == 260
    inputs = processor(images=tiny.make_image(), text="<image> red", return_tensors="pt")
    assert torch.isfinite(model(**inputs).logits).all()


def test_the_image_settings_are_those_of_the_tower(parts: Path, tmp_path: Path) -> None:
    copied = tmp_path / "parts"
    shutil.copytree(parts, copied)
    file = copied / "vision_tower" / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "image_mean": [0.25, 0.5, 0.75]}))
    _, processor = load_processor(config_of(copied))
    assert tuple(processor.image_processor.image_mean) == (0.25, 0.5, 0.75)
    file.write_text(json.dumps({**settings, "crop_size": {"height": 56, "width": 56}}))
    with pytest.raises(RecipeError, match=r"takes images of 28 pixels, but its preprocessor_config.json makes .* 56"):
        load_processor(config_of(copied))


def test_a_whole_clip_gives_its_vision_half(parts: Path, tmp_path: Path) -> None:
    vision = tiny.make_config().vision_config
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = CLIPTextConfig(vocab_size=64, **sizes)
    clip = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=16))
    clip.save_pretrained(tmp_path / "clip")
    model, _ = load_model(config_of(parts, vision_tower_name_or_path=str(tmp_path / "clip")), seed=0)
    own, theirs = model.model.vision_tower.state_dict(), clip.vision_model.state_dict()
    assert own
    assert all(torch.equal(tensor, theirs[name.removeprefix("vision_model.")]) for name, tensor in own.items())


def test_a_tower_without_class_token_keeps_all_its_patches(parts: Path, tmp_path: Path) -> None:
    SiglipVisionModel(tiny.make_config("siglip").vision_config).save_pretrained(tmp_path / "siglip")
    model, processor = load_model(config_of(parts, vision_tower_name_or_path=str(tmp_path / "siglip")), seed=0)
    assert model.config.vision_feature_select_strategy == "full"
    assert processor.num_image_tokens(50, 20) == 4
    assert not processor.image_processor.do_center_crop


def test_a_later_stage_may_change_how_images_are_fitted(parts: Path, tmp_path: Path) -> None:
    model, processor = load_model(config_of(parts), seed=0)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    padded, padding = load_model(ModelConfig(model_name_or_path=str(tmp_path), image_aspect_ratio="pad"), seed=0)
    assert padded.config.image_aspect_ratio == padding.image_processor.image_aspect_ratio == "pad"
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), padded.state_dict().values()))


def test_a_model_without_a_vision_tower_is_refused(parts: Path) -> None:
    with pytest.raises(RecipeError, match="is a 'llama', which has no vision tower"):
        load_processor(config_of(parts, vision_tower_name_or_path=str(parts / "language_model")))
