"""The model on token ids of a few images: cut tower, projectors, scatter, loss, attention, generation."""

import pytest
import torch
from transformers import (
    AutoConfig,
    CLIPVisionModel,
    GemmaConfig,
    GPT2Config,
    GraniteConfig,
    GraniteForCausalLM,
    MistralConfig,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2Config,
)

from tiny import PINPOINTS, make_config, make_image, make_model, make_processor
from transformers_llava import OpenLlavaForConditionalGeneration
from transformers_llava.data.batches.collators import add_supervised_positions
from transformers_llava.modeling.vision.vision_tower import encode_tiles


IMAGE = 260  # first id after the vocabulary: no row in the embedding table
TEXT_SIZES = {
    "vocab_size": 260,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def make_batch(num_images: int = 1) -> dict[str, torch.Tensor]:
    ids = [1, 9, *([IMAGE] * 4 + [12, 13]) * num_images, 14, 2]
    pixels = torch.randn(num_images, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    return {"input_ids": torch.tensor([ids]), "pixel_values": pixels}


def test_the_tower_ends_at_the_feature_layer_and_every_parameter_gets_a_gradient() -> None:
    model = make_model().train()
    assert len(model.model.vision_tower.encoder.layers) == 2  # of 3: hidden_states[-2]
    batch = make_batch()
    model(**batch, labels=batch["input_ids"]).loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("layer", "indices", "num_layers"), [(-1, [3], 3), (-2, [2], 2), (0, [0], 0), ([-2, 1, -4], [2, 1, 0], 2)]
)
def test_feature_layers_count_from_the_front_among_one_state_more_than_layers(layer, indices, num_layers) -> None:
    config = make_config(vision_feature_layer=layer)  # 3 layers: states 0 to 3
    assert (config.vision_feature_indices, config.num_vision_layers) == (indices, num_layers)


@pytest.mark.parametrize("layer", [-1, -2, 1, 0, [-2, -1], [1, 3]])
def test_features_of_the_cut_tower_are_those_of_the_whole_one(layer: int | list[int]) -> None:
    config = make_config(vision_feature_layer=layer)
    tower = CLIPVisionModel(config.vision_config).eval()
    model = make_model(config)
    kept = model.model.vision_tower.state_dict()
    model.model.vision_tower.load_state_dict({key: tower.state_dict()[key] for key in kept})
    pixels = make_batch()["pixel_values"]
    with torch.no_grad():
        hidden_states = tower(pixels, output_hidden_states=True).hidden_states
        expected = torch.cat([hidden_states[i] for i in config.vision_feature_layers], dim=-1)[:, 1:]
        actual, _ = encode_tiles(model.model.vision_tower, config, pixels)
    assert torch.equal(actual, expected)


def test_full_keeps_the_class_token_and_siglip_has_none() -> None:
    counts = {}
    for tower, strategy in [("clip", "default"), ("clip", "full"), ("siglip", "default"), ("siglip", "full")]:
        config = make_config(tower, vision_feature_select_strategy=strategy)
        (features,) = make_model(config).get_image_features(torch.zeros(1, 3, 28, 28)).pooler_output
        assert features.shape == (config.tiling_rule().tokens_per_tile, 64)
        counts[tower, strategy] = features.shape[0]
    assert list(counts.values()) == [4, 5, 4, 4]


@pytest.mark.parametrize(
    ("projector_type", "num_tensors"),
    [("linear", 2), ("mlp1x_gelu", 2), ("mlp2x_gelu", 4), ("mlp3x_gelu", 6), ("mlp2x_res2x_gelu", 16), ("pooler", 4)],
)
def test_projectors(projector_type: str, num_tensors: int) -> None:
    config = make_config(projector_type=projector_type)
    model = make_model(config)
    assert len(model.model.multi_modal_projector.state_dict()) == num_tensors
    (features,) = model.get_image_features(torch.zeros(1, 3, 28, 28)).pooler_output
    assert features.shape == (config.tiling_rule().tokens_per_tile, 64)


def test_the_identity_projector_needs_equal_widths() -> None:
    with pytest.raises(ValueError, match="32 channels and the language model takes 64"):
        make_config(projector_type="identity")
    config = make_config(projector_type="identity", text_config=Qwen2Config(**{**TEXT_SIZES, "hidden_size": 32}))
    assert list(make_model(config).model.multi_modal_projector.parameters()) == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"projector_type": "mlp0x_gelu"}, "projector_type='mlp0x_gelu'"),
        ({"vision_feature_layer": 4}, "vision_feature_layer=4 does not exist"),
        ({"image_aspect_ratio": "anyres"}, "image_grid_pinpoints"),
        ({"projector_type": "pooler", "vision_feature_select_strategy": "full"}, "class token"),
        ({"vision_config": AutoConfig.for_model("vit")}, "'vit' is not a known vision tower"),
    ],
)
def test_configurations_that_cannot_work_are_refused(config: dict, message: str) -> None:
    from transformers_llava import OpenLlavaConfig

    with pytest.raises(ValueError, match=message):
        OpenLlavaConfig(**config) if "vision_config" in config else make_config(**config)


@pytest.mark.parametrize(
    "text_config",
    [
        MistralConfig(**TEXT_SIZES),
        Qwen2Config(**TEXT_SIZES, tie_word_embeddings=True),
        GemmaConfig(**TEXT_SIZES, head_dim=16),
        GPT2Config(vocab_size=260, n_embd=64, n_layer=2, n_head=4),
    ],
    ids=lambda config: config.model_type,
)
def test_other_decoders_answer_and_come_back_from_disk(text_config: object, tmp_path: object) -> None:
    model = make_model(make_config(text_config=text_config))
    tied = text_config.tie_word_embeddings
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied
    batch = make_batch()
    model.save_pretrained(tmp_path)
    loaded, info = OpenLlavaForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    assert model.generate(**batch, max_new_tokens=3, do_sample=False).shape[1] > batch["input_ids"].shape[1]


def test_images_change_the_answer_and_their_order_matters() -> None:
    model, batch = make_model(), make_batch(2)
    with torch.no_grad():
        logits = model(**batch).logits[0, -1]
        swapped = model(**{**batch, "pixel_values": batch["pixel_values"].flip(0)}).logits[0, -1]
    assert not torch.allclose(logits, swapped, atol=1e-3)


@pytest.mark.parametrize(
    ("ids", "num_images", "message"),
    [
        ([1, IMAGE, IMAGE, IMAGE, 9], 1, "3 image positions, but the images give 4 features"),
        ([1, *[IMAGE] * 4, 9], 2, "4 image positions, but the images give 8 features"),
    ],
)
def test_a_wrong_number_of_positions_names_both_counts(ids: list[int], num_images: int, message: str) -> None:
    pixels = torch.zeros(num_images, 3, 28, 28)
    with pytest.raises(ValueError, match=message):
        make_model()(input_ids=torch.tensor([ids]), pixel_values=pixels)


def test_images_beside_embeddings_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be recognized"):
        make_model()(inputs_embeds=torch.zeros(1, 3, 64), pixel_values=torch.zeros(1, 3, 28, 28))


def test_text_alone_needs_no_pixels() -> None:
    assert make_model()(input_ids=torch.tensor([[1, 5, 6]])).logits.shape == (1, 3, 260)


def test_training_projects_supervised_positions_only_and_the_loss_is_the_usual_one() -> None:
    model, batch = make_model(), make_batch()
    labels = batch["input_ids"].clone()
    labels[:, :7] = -100
    with torch.no_grad():
        logits = model(**batch).logits
        expected = torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], ignore_index=-100)
        projected: list[int] = []
        model.lm_head.register_forward_hook(lambda _, inputs, output: projected.append(inputs[0].numel() // 64))
        output = model.train()(**batch, labels=labels)
    assert projected == [3]
    assert output.logits is None
    assert torch.allclose(output.loss, expected, atol=1e-6)
    assert torch.allclose(model(**batch, labels=labels, num_items_in_batch=6).loss, expected / 2, atol=1e-6)


def test_positions_that_the_batch_says_give_the_same_loss_and_all_logits() -> None:
    model, batch = make_model(), make_batch()
    rows = {name: tensor.repeat(2, *[1] * (tensor.ndim - 1)) for name, tensor in batch.items()}
    labels = rows["input_ids"].masked_fill(torch.arange(rows["input_ids"].shape[1]) < torch.tensor([[7], [9]]), -100)
    supervised = add_supervised_positions({"labels": labels})
    assert len(supervised["supervised_positions"]) < labels.shape[1]
    expected, output = model(**rows, labels=labels), model(**rows, **supervised)
    assert torch.allclose(output.loss, expected.loss, rtol=5e-7)
    assert torch.equal(output.logits, expected.logits)
    assert torch.allclose(model.train()(**rows, **supervised).loss, expected.loss, rtol=5e-7)
    hidden, positions = model.model(**rows).last_hidden_state, supervised["supervised_positions"]
    chosen = model.model(**rows, supervised_positions=positions).last_hidden_state
    assert torch.equal(chosen, hidden.flatten(0, 1)[positions][None])


def test_image_positions_in_the_labels_do_not_count() -> None:
    model, batch = make_model(), make_batch()
    masked = batch["input_ids"].masked_fill(batch["input_ids"] == IMAGE, -100)
    assert torch.equal(model(**batch, labels=batch["input_ids"]).loss, model(**batch, labels=masked).loss)


def test_nothing_supervised_is_a_loss_of_zero_with_zero_gradients() -> None:
    model, batch = make_model().train(), make_batch()
    loss = model(**batch, labels=torch.full_like(batch["input_ids"], -100)).loss
    loss.backward()
    assert loss.item() == 0.0
    assert all(parameter.grad.abs().sum() == 0 for parameter in model.parameters())


@pytest.mark.parametrize("attention", ["eager", "flex_attention"])
def test_attention_implementations_agree(attention: str) -> None:
    model, batch = make_model(), make_batch()
    with torch.no_grad():
        expected = model(**batch).logits
        model.set_attn_implementation({"": "sdpa", "text_config": attention, "vision_config": "sdpa"})
        assert torch.allclose(model(**batch).logits, expected, atol=1e-5)


def test_flash_attention_is_declared() -> None:
    assert OpenLlavaForConditionalGeneration._supports_flash_attn


def test_the_forward_compiles_into_one_graph() -> None:
    model, batch = make_model(), make_batch()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        assert torch.equal(compiled(**batch).logits, model(**batch).logits)
        labels = batch["input_ids"]
        assert torch.allclose(compiled(**batch, labels=labels).loss, model(**batch, labels=labels).loss, atol=1e-6)


def test_a_frozen_tower_builds_no_graph_even_with_gradient_checkpointing() -> None:
    gradients = {}
    for checkpointing in (False, True):
        model = make_model().train()
        model.model.vision_tower.requires_grad_(False)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            model.enable_input_require_grads()
        seen: list[bool] = []
        model.model.vision_tower.register_forward_hook(
            lambda _, inputs, output, seen=seen: seen.append(output.last_hidden_state.requires_grad)
        )
        batch = make_batch()
        model(**batch, labels=batch["input_ids"]).loss.backward()
        assert seen == [False]
        gradients[checkpointing] = model.model.multi_modal_projector.linear_1.weight.grad
    assert torch.equal(gradients[False], gradients[True])


def test_a_frozen_bf16_tower_feeds_an_fp32_projector() -> None:
    model = make_model()
    model.model.vision_tower.to(torch.bfloat16)
    assert model(**make_batch()).logits.dtype == torch.float32


@pytest.mark.parametrize("tower", ["clip", "siglip"])
@pytest.mark.parametrize("merge", ["flat", "spatial", "spatial_unpad"])
def test_tiled_images_of_different_shapes_in_one_batch(tower: str, merge: str) -> None:
    config = make_config(tower, image_aspect_ratio="anyres", image_grid_pinpoints=PINPOINTS, patch_merge_type=merge)
    model, processor = make_model(config), make_processor(config)
    shapes = [make_image(50, 20, seed=1), make_image(20, 50, seed=2), make_image(60, 61, seed=3)]
    texts = ["<image>a", "b<image>", "<image>c<image>"]
    with torch.no_grad():
        together = processor(images=[*shapes, shapes[0]], text=texts, padding=True, return_tensors="pt")
        batched = model(**together).logits
        for i, images in enumerate([[shapes[0]], [shapes[1]], [shapes[2], shapes[0]]]):
            alone = model(**processor(images=images, text=texts[i], return_tensors="pt")).logits[0]
            assert torch.allclose(batched[i, -alone.shape[0] :], alone, atol=1e-4)


def test_padded_tiles_and_sizes_as_lists_are_accepted() -> None:
    config = make_config(image_aspect_ratio="anyres", image_grid_pinpoints=PINPOINTS, patch_merge_type="spatial_unpad")
    model, processor = make_model(config), make_processor(config)
    batch = processor(images=[make_image(50, 20), make_image(60, 60)], text="<image><image>", return_tensors="pt")
    padded = torch.zeros(2, 5, 3, 28, 28)
    padded[0, :3], padded[1] = batch["pixel_values"][:3], batch["pixel_values"][3:]
    with torch.no_grad():
        expected = model(**batch).logits
        sizes = batch["image_sizes"].tolist()
        again = model(input_ids=batch["input_ids"], pixel_values=padded, image_sizes=sizes).logits
    assert torch.equal(again, expected)


def test_tiles_that_do_not_fit_the_sizes_are_refused() -> None:
    config = make_config(image_aspect_ratio="anyres", image_grid_pinpoints=PINPOINTS)
    with pytest.raises(ValueError, match="holds 4 tiles, but 1 images"):
        make_model(config).get_image_features(torch.zeros(4, 3, 28, 28), [(20, 50)])
    with pytest.raises(ValueError, match="`image_sizes` was not given"):
        make_model(config).get_image_features(torch.zeros(3, 3, 28, 28))


def test_one_tile_per_image_on_a_tiled_checkpoint_is_closed_by_a_newline() -> None:
    config = make_config(image_aspect_ratio="anyres", image_grid_pinpoints=PINPOINTS, patch_merge_type="spatial_unpad")
    model, processor = make_model(config), make_processor(config)
    batch = processor(
        images=[make_image(50, 20), make_image(60, 60)],
        text="<image><image>",
        image_aspect_ratio="pad",
        return_tensors="pt",
    )
    assert (batch["input_ids"] == IMAGE).sum() == 2 * (4 + 1)
    features = model.get_image_features(batch["pixel_values"], batch["image_sizes"]).pooler_output
    assert torch.equal(features[0][-1], model.model.image_newline)


def test_left_padded_batches_generate_what_single_prompts_do() -> None:
    model, processor = make_model(), make_processor()
    texts = [
        "<s>USER: <image>\nWhat? ASSISTANT:",
        "<s>USER: <image>\nA much longer question about it? ASSISTANT:",
        "<s>Hi",
    ]
    images = [make_image(seed=1), make_image(seed=2), None]
    together = processor(images=images[:2], text=texts, padding=True, return_tensors="pt")
    batched = model.generate(**together, max_new_tokens=8, do_sample=False)[:, together["input_ids"].shape[1] :]
    for i in range(3):
        alone = processor(images=images[i], text=texts[i], return_tensors="pt")
        expected = model.generate(**alone, max_new_tokens=8, do_sample=False)[0, alone["input_ids"].shape[1] :]
        assert batched[i, : len(expected)].tolist() == expected.tolist()


@pytest.mark.parametrize("settings", [{"num_beams": 3}, {"num_return_sequences": 2, "num_beams": 2}])
def test_beams_see_the_images_of_their_own_prompt(settings: dict) -> None:
    model, processor = make_model(), make_processor()
    images = [make_image(seed=seed) for seed in range(3)]
    together = processor(images=images, text=["<image>a<image>", "b<image>"], padding=True, return_tensors="pt")
    settings = {**settings, "max_new_tokens": 5, "do_sample": False}
    batched = model.generate(**together, **settings)[:, together["input_ids"].shape[1] :]
    alone = processor(images=images[2], text="b<image>", return_tensors="pt")
    expected = model.generate(**alone, **settings)[:, alone["input_ids"].shape[1] :]
    assert batched[-expected.shape[0] :, : expected.shape[1]].tolist() == expected.tolist()


def test_an_unknown_image_id_survives_penalties() -> None:
    model, batch = make_model(), make_batch()
    output = model.generate(**batch, max_new_tokens=4, repetition_penalty=1.3, no_repeat_ngram_size=2, do_sample=False)
    assert output.shape[1] > batch["input_ids"].shape[1]


def test_logits_are_scaled_as_the_decoder_says() -> None:
    text_config = GraniteConfig(**TEXT_SIZES, logits_scaling=8.0)
    model = make_model(make_config(text_config=text_config))
    reference = GraniteForCausalLM(text_config).eval()
    reference.model.load_state_dict(model.model.language_model.state_dict())
    reference.lm_head.load_state_dict(model.lm_head.state_dict())
    ids = torch.tensor([[1, 5, 6, 7]])
    with torch.no_grad():
        assert torch.allclose(model(input_ids=ids).logits, reference(input_ids=ids).logits, atol=1e-5)


def test_a_mixture_of_experts_is_balanced_as_its_own_class_balances_it() -> None:
    sizes = {**TEXT_SIZES, "num_local_experts": 4, "num_experts_per_tok": 2}
    text_config = MixtralConfig(**sizes, output_router_logits=True, router_aux_loss_coef=1.0)
    model = make_model(make_config(text_config=text_config)).train()
    reference = MixtralForCausalLM(text_config).train()
    reference.model.load_state_dict(model.model.language_model.state_dict())
    reference.lm_head.load_state_dict(model.lm_head.state_dict())
    ids = torch.tensor([[1, 5, 6, 7]])
    with torch.no_grad():
        ours, theirs = (m(input_ids=ids, labels=ids) for m in (model, reference))
    assert torch.allclose(ours.loss, theirs.loss, atol=1e-5)
    assert torch.allclose(ours.aux_loss, theirs.aux_loss, atol=1e-5)


def test_quantised_weights_do_not_decide_the_precision_of_features() -> None:
    projector = make_model().model.multi_modal_projector
    features = torch.zeros(1, 4, 32, dtype=torch.bfloat16)
    assert projector._in_own_precision(features).dtype == torch.float32
    for layer in (projector.linear_1, projector.linear_2):
        layer.weight = torch.nn.Parameter(layer.weight.to(torch.int8), requires_grad=False)
    assert projector._in_own_precision(features).dtype == torch.bfloat16
