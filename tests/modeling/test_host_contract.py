"""What transformers guarantees its users of any image-text model, beside the built-in class where it has the same."""

from typing import Any

import pytest
import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration, Trainer, TrainingArguments
from transformers.utils import logging

from tiny import PINPOINTS, make_config, make_image, make_model, make_processor
from transformers_llava import OpenLlavaModel


IMAGE = 260  # has no row in the embedding table
KNOWN = 259  # has one


def make_batch(image_id: int = IMAGE, num_images: int = 1) -> dict[str, torch.Tensor]:
    ids = [1, 9, *([image_id] * 4 + [12, 13]) * num_images, 14, 2]
    pixels = torch.randn(num_images, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    return {"input_ids": torch.tensor([ids]), "pixel_values": pixels}


@pytest.fixture(scope="module")
def twins() -> tuple[Any, Any]:
    """Ours and the built-in class with the same weights; the image id has a row."""
    config = make_config(image_token_index=KNOWN)
    ours = make_model(config)
    shared = {"vision_config": config.vision_config, "text_config": config.text_config, "image_token_index": KNOWN}
    builtin = LlavaForConditionalGeneration(LlavaConfig(**shared)).eval()
    assert not builtin.load_state_dict(ours.state_dict(), strict=False).unexpected_keys
    return ours, builtin


@torch.no_grad()
def test_image_ids_without_pixels_are_text_in_evaluation(twins: tuple[Any, Any]) -> None:
    ids = make_batch(KNOWN)["input_ids"]
    ours, builtin = (model(input_ids=ids, use_cache=True) for model in twins)
    assert torch.allclose(ours.logits, builtin.logits, atol=1e-5)
    chunk = torch.tensor([[7, KNOWN, KNOWN, 8]])  # several at once on a cache: a candidate of assisted decoding
    continued = [
        model(input_ids=chunk, past_key_values=output.past_key_values).logits
        for model, output in zip(twins, (ours, builtin), strict=True)
    ]
    assert torch.allclose(*continued, atol=1e-5)


@torch.no_grad()
def test_an_id_without_a_row_runs_too_and_forgotten_pixels_are_named(caplog: pytest.LogCaptureFixture) -> None:
    model, batch = make_model(), make_batch()
    logging.warning_once.cache_clear()
    assert torch.isfinite(model(input_ids=batch["input_ids"]).logits).all()
    assert model(input_ids=torch.tensor([[1, 5]])).logits.shape == (1, 2, 260)
    assert caplog.text.count("image positions, but no images were given") == 1
    assert "pixel_values" in caplog.text
    with pytest.raises(ValueError, match=r"4 image positions, but the images give 0 features\. No images were given"):
        model.train()(input_ids=batch["input_ids"])


@torch.no_grad()
def test_embeddings_with_pixels_are_the_ids_with_pixels(twins: tuple[Any, Any]) -> None:
    batch = make_batch(KNOWN)
    ours, _ = twins
    embeddings = ours.get_input_embeddings()(batch["input_ids"])
    actual = ours(inputs_embeds=embeddings, pixel_values=batch["pixel_values"]).logits
    assert torch.equal(actual, ours(**batch).logits)
    with pytest.raises(ValueError, match="no row in the embedding table"):
        make_model()(inputs_embeds=embeddings, pixel_values=batch["pixel_values"])


@torch.no_grad()
def test_image_features_have_the_states_and_attentions_of_the_tower(twins: tuple[Any, Any]) -> None:
    ours, builtin = twins
    pixels = make_batch()["pixel_values"]
    ours.set_attn_implementation("eager")
    builtin.set_attn_implementation("eager")
    try:
        wanted = {"output_hidden_states": True, "output_attentions": True}
        actual, expected = (model.get_image_features(pixels, **wanted) for model in twins)
        plain = ours.get_image_features(pixels)
        as_tuple = ours.get_image_features(pixels, return_dict=False)
    finally:
        ours.set_attn_implementation("sdpa")
        builtin.set_attn_implementation("sdpa")
    assert len(actual.hidden_states) == 3  # of 4: the tower ends at the layer that is read, -2
    assert len(actual.attentions) == 2
    for ours_state, state in zip(actual.hidden_states, expected.hidden_states[:3], strict=True):
        assert torch.allclose(ours_state, state, atol=1e-5)
    assert torch.allclose(actual.attentions[1], expected.attentions[1], atol=1e-5)
    assert torch.allclose(actual.pooler_output[0], expected.pooler_output[0], atol=1e-5)
    assert torch.equal(actual.last_hidden_state, actual.hidden_states[-1])
    assert plain.hidden_states is None
    assert plain.attentions is None
    assert torch.allclose(plain.pooler_output[0], actual.pooler_output[0], atol=1e-5)
    assert isinstance(as_tuple, tuple)


def test_other_features_than_the_configured_ones_are_refused() -> None:
    model, pixels = make_model(), make_batch()["pixel_values"]
    assert model.get_image_features(pixels, vision_feature_layer=-2, vision_feature_select_strategy="default")
    with pytest.raises(ValueError, match="vision_feature_layer=-1"):
        model.get_image_features(pixels, vision_feature_layer=-1)
    with pytest.raises(ValueError, match="vision_feature_select_strategy='full'"):
        model(**make_batch(), vision_feature_select_strategy="full")


def test_pixels_and_encoded_images_together_are_refused() -> None:
    model, batch = make_model(), make_batch()
    encoded = {"image": model.get_image_features(batch["pixel_values"])}
    with pytest.raises(ValueError, match="not both"):
        model(**batch, mm_encoder_outputs=encoded)
    with torch.no_grad():
        alone = model(input_ids=batch["input_ids"], mm_encoder_outputs=encoded)
        assert torch.equal(alone.logits, model(**batch).logits)


def test_metrics_of_trainer_get_logits_alone(tmp_path: Any) -> None:
    processor = make_processor()

    def collate(examples: list[int]) -> Any:
        images = [make_image(seed=seed) for seed in examples]
        batch = processor(images=images, text=["<image>Hi"] * len(examples), return_tensors="pt")
        batch["labels"] = batch["input_ids"]
        return batch

    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to=[], remove_unused_columns=False, disable_tqdm=True)
    trainer = Trainer(model=make_model(), args=args, data_collator=collate)
    predictions = trainer.predict([0, 1, 2]).predictions
    assert predictions.shape == (3, 6, 260)


@pytest.mark.parametrize("num_images", [1, 2])
@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize("tiled", [False, True])
def test_a_second_turn_takes_all_pixels_again(tiled: bool, chunk: int | None, num_images: int) -> None:
    """The cache holds the first image; the second turn has text alone, or one more image."""
    tiling = {"image_aspect_ratio": "anyres", "image_grid_pinpoints": PINPOINTS, "patch_merge_type": "spatial_unpad"}
    config = make_config(**(tiling if tiled else {}))
    model, processor = make_model(config), make_processor(config)
    settings = {"max_new_tokens": 4, "do_sample": False, "return_dict_in_generate": True}
    first = processor(images=make_image(40, 30), text="<image>Hi", return_tensors="pt")
    turn = model.generate(**first, **settings)
    images = [make_image(40, 30), make_image(28, 60, seed=1)][:num_images]
    all_pixels = processor(images=images, text="<image>" * num_images, return_tensors="pt")
    added = [13, *[IMAGE] * processor.num_image_tokens(28, 60) * (num_images - 1), 14]
    ids = torch.cat([turn.sequences, torch.tensor([added])], dim=1)
    pixels = {name: all_pixels[name] for name in ("pixel_values", "image_sizes")}
    expected = model.generate(input_ids=ids, **pixels, **settings).sequences
    cache = turn.past_key_values
    actual = model.generate(
        input_ids=ids, **pixels, past_key_values=cache, prefill_chunk_size=chunk, **settings
    ).sequences
    assert actual.tolist() == expected.tolist()


def test_shifted_labels_are_the_targets(twins: tuple[Any, Any]) -> None:
    """As context and sequence parallelism pass them; `labels` beside them does not count."""
    batch = make_batch(KNOWN)
    shifted = torch.tensor([[-100] * 6 + [12, 13, 14, 2]])
    ours, builtin = twins
    expected = builtin(**batch, labels=batch["input_ids"], shift_labels=shifted).loss
    assert torch.allclose(ours(**batch, labels=batch["input_ids"], shift_labels=shifted).loss, expected, atol=1e-5)
    assert torch.allclose(ours(**batch, shift_labels=shifted).loss, expected, atol=1e-5)
    unshifted = torch.tensor([[-100] * 7 + [12, 13, 14]])
    assert torch.allclose(
        ours(**batch, labels=unshifted, num_items_in_batch=4).loss * 4 / 3,
        ours(**batch, shift_labels=torch.tensor([[-100] * 6 + [12, 13, 14, -100]])).loss,
        atol=1e-5,
    )


def test_the_base_class_has_the_same_contract() -> None:
    model = OpenLlavaModel(make_config()).eval()
    with torch.no_grad():
        output = model(input_ids=make_batch()["input_ids"], return_dict=False)
    assert isinstance(output, tuple)


def test_the_processor_names_a_forgotten_image() -> None:
    with pytest.raises(ValueError, match="no images were passed"):
        make_processor()(text="<image>Hi", return_tensors="pt")
