"""A user's own script: TRL's trainers and collators as they come, nothing of ours but model and processor."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import LlavaConfig, LlavaForConditionalGeneration, Trainer, TrainingArguments
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling
from trl.trainer.utils import add_fused_lm_head

from tiny import PINPOINTS, make_config, make_image, make_model, make_processor
from transformers_llava.modeling.labels import OpenLlavaBatchFeature


IMAGE = 260
ANSWERS = ["Red.", "A large dog", "no", "two of them"]


def rows(form: str = "messages") -> list[dict[str, Any]]:
    found = []
    for seed, answer in enumerate(ANSWERS):
        user = [{"role": "user", "content": f"What is it, {seed}?"}]
        assistant = [{"role": "assistant", "content": answer}]
        turns = {"messages": user + assistant} if form == "messages" else {"prompt": user, "completion": assistant}
        found.append({**turns, "images": [make_image(seed=seed)]})
    return found


def settings(folder: Path, **kwargs: Any) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "max_steps": 6,
        "learning_rate": 0.05,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "logging_steps": 1,
        "bf16": False,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "gradient_checkpointing": False,
        **kwargs,
    }


def losses_of(trainer: Any) -> list[float]:
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("setting", ["default", "assistant_only", "prompt_completion", "whole_prompt_completion"])
def test_labels_of_the_stock_collator_hold_no_image_position(setting: str) -> None:
    processor = make_processor()
    collator = DataCollatorForVisionLanguageModeling(
        processor,
        assistant_only_loss=setting == "assistant_only",
        completion_only_loss=setting == "prompt_completion",
    )
    batch = collator(rows("prompt" if "prompt" in setting else "messages"))
    ids, labels = batch["input_ids"], batch["labels"]
    assert (ids == IMAGE).sum() == 4 * 4
    assert (labels == IMAGE).sum() == 0
    supervised = labels != -100
    assert torch.equal(labels[supervised], ids[supervised])
    if setting in ("default", "whole_prompt_completion"):  # every other position counts
        assert supervised.sum() == (batch["attention_mask"].bool() & (ids != IMAGE)).sum()


def test_a_batch_masks_labels_wherever_it_travels() -> None:
    batch = make_processor()(images=make_image(), text="<image>Hi", return_tensors="pt")
    for copied in (batch, copy.copy(batch), pickle.loads(pickle.dumps(batch)), batch.to("cpu")):
        assert isinstance(copied, OpenLlavaBatchFeature)
        copied["labels"] = copied["input_ids"]
        assert copied["labels"].tolist() == [[-100] * 4 + copied["input_ids"][0, 4:].tolist()]
        assert (copied["input_ids"] == IMAGE).sum() == 4
    moved = type(batch)({key: value + 0 for key, value in batch.items()})  # as accelerate and Trainer move a batch
    assert moved["labels"].tolist() == batch["labels"].tolist()


@pytest.mark.parametrize("setting", ["default", "assistant_only", "prompt_completion"])
def test_the_stock_trainer_learns_what_the_built_in_class_learns(setting: str, tmp_path: Path) -> None:
    """With a row for the image id, so that both classes have the same weights; the built-in one with masked labels."""
    config = make_config(image_token_index=259)
    ours = make_model(config)
    builtin_config = LlavaConfig(
        vision_config=config.vision_config, text_config=config.text_config, image_token_index=259
    )
    builtin = LlavaForConditionalGeneration(builtin_config)
    missing = builtin.load_state_dict(ours.state_dict(), strict=False)
    assert all("vision_tower" in key for key in missing.missing_keys)  # behind the layer that is read
    assert not missing.unexpected_keys
    processor = make_processor()
    form = "prompt" if setting == "prompt_completion" else "messages"

    class Masked(DataCollatorForVisionLanguageModeling):
        def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
            batch = dict(super().torch_call(examples))
            del batch["image_sizes"]  # read as those of Pixtral there
            batch["labels"] = batch["labels"].masked_fill(batch["input_ids"] == IMAGE, -100)
            batch["input_ids"] = batch["input_ids"].masked_fill(batch["input_ids"] == IMAGE, 259)
            return batch

    class Renumbered(DataCollatorForVisionLanguageModeling):
        def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
            batch = super().torch_call(examples)
            batch["input_ids"] = batch["input_ids"].masked_fill(batch["input_ids"] == IMAGE, 259)
            return batch

    found = []
    for model, collator in ((ours, Renumbered), (builtin, Masked)):
        args = SFTConfig(
            **settings(tmp_path),
            assistant_only_loss=setting == "assistant_only",
            train_sampling_strategy="sequential",
            max_length=None,
        )
        data_collator = collator(
            processor,
            assistant_only_loss=setting == "assistant_only",
            completion_only_loss=setting == "prompt_completion",
        )
        trainer = SFTTrainer(
            model=model,
            args=args,
            train_dataset=Dataset.from_list(rows(form)),
            processing_class=processor,
            data_collator=data_collator,
        )
        found.append(losses_of(trainer))
    assert found[0] == pytest.approx(found[1], abs=2e-4)
    assert found[0][-1] < found[0][0]


def test_the_stock_loss_has_a_bottom(tmp_path: Path) -> None:
    """The image id has no row here: counted, its positions would pull the loss below zero within a few steps."""
    args = SFTConfig(**settings(tmp_path, max_steps=15, learning_rate=0.02), max_length=None)
    processor, model = make_processor(), make_model()
    batch = DataCollatorForVisionLanguageModeling(processor)(rows())
    expected = model(**batch).loss.item()
    trainer = SFTTrainer(model=model, args=args, train_dataset=Dataset.from_list(rows()), processing_class=processor)
    losses = losses_of(trainer)
    assert losses[0] == pytest.approx(expected, abs=1e-3)
    assert min(losses) >= 0


@pytest.mark.parametrize("is_masked_by", ["batch", "model"])
def test_a_fused_head_counts_no_image_position(is_masked_by: str) -> None:
    """`model`: labels that come from a plain dictionary, which only the forward can mask."""
    model, processor = make_model(), make_processor()
    add_fused_lm_head(model)
    batch = processor(images=make_image(), text="<image>Hello you", return_tensors="pt")
    batch = batch if is_masked_by == "batch" else dict(batch)
    batch["labels"] = batch["input_ids"].clone()
    output = model(**batch, fused_lm_head=True)
    expected = model(**batch)
    assert output.label_mask.sum() == (batch["input_ids"][:, 1:] != IMAGE).sum()
    assert output.loss.item() == pytest.approx(expected.loss.item(), abs=1e-5)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.lm_head.weight.zero_()
    assert twin(**batch, fused_lm_head=True).loss.item() != pytest.approx(output.loss.item())
    assert model(**batch, fused_lm_head=True).loss.item() == pytest.approx(output.loss.item())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_plain_trainer_counts_no_image_position(smoothing: float, tmp_path: Path) -> None:
    processor, model = make_processor(), make_model()

    def collate(examples: list[dict[str, Any]]) -> Any:
        texts = [f"<image>{example['text']}" for example in examples]
        images = [make_image(seed=example["seed"]) for example in examples]
        batch = processor(images=images, text=texts, padding=True, return_tensors="pt")
        batch["labels"] = batch["input_ids"].clone()
        return batch

    data = [{"text": answer, "seed": seed} for seed, answer in enumerate(ANSWERS)]
    args = TrainingArguments(
        **settings(tmp_path, max_steps=1, per_device_train_batch_size=4, gradient_accumulation_steps=1),
        label_smoothing_factor=smoothing,
        remove_unused_columns=False,
    )
    batch = collate(data)
    with torch.no_grad():
        logits = model(**{key: value for key, value in batch.items() if key != "labels"}).logits
    targets = batch["input_ids"].masked_fill(batch["input_ids"] == IMAGE, -100)
    counted = (targets[:, 1:] != -100).sum()
    if smoothing == 0:  # `Trainer` shifts smoothed labels of text-only classes alone
        logits, targets = logits[:, :-1], targets[:, 1:]
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), label_smoothing=smoothing, reduction="sum"
    )
    expected /= counted
    losses = losses_of(Trainer(model=model, args=args, train_dataset=data, data_collator=collate))
    assert losses == [pytest.approx(expected.item(), abs=1e-3)]


@pytest.mark.parametrize("tiled", [False, True])
def test_grpo_trains_on_whole_and_tiled_images(tiled: bool, tmp_path: Path) -> None:
    tiling = {"image_aspect_ratio": "anyres", "image_grid_pinpoints": PINPOINTS, "patch_merge_type": "spatial_unpad"}
    config = make_config(**(tiling if tiled else {}))
    prompts = [
        {"prompt": [{"role": "user", "content": "What?"}], "images": [make_image(*size)]}
        for size in ((40, 30), (28, 60))
    ]
    trainer = GRPOTrainer(
        model=make_model(config),
        reward_funcs=lambda completions, **_: [float(len(str(completion)) % 7) for completion in completions],
        args=GRPOConfig(
            **settings(tmp_path, max_steps=1, per_device_train_batch_size=4, gradient_accumulation_steps=1),
            num_generations=2,
            max_completion_length=4,
        ),
        train_dataset=Dataset.from_list(prompts),
        processing_class=make_processor(config),
    )
    trainer.train()
    assert torch.isfinite(torch.tensor(trainer.state.log_history[0]["loss"]))


def test_tile_counts_are_those_of_the_tiles_and_need_one_image_per_prompt() -> None:
    config = make_config(image_aspect_ratio="anyres", image_grid_pinpoints=PINPOINTS, patch_merge_type="spatial_unpad")
    image_processor = make_processor(config).image_processor
    images = [[make_image(40, 30)], [make_image(28, 60)]]
    counts = image_processor(images, crop_to_patches=True, return_tensors="pt")["num_patches"]
    assert counts.tolist() == [len(image_processor(group)["pixel_values"]) for group in images]
    whole = image_processor(images, crop_to_patches=True, image_aspect_ratio="pad")["num_patches"]
    assert whole.tolist() == [1, 1]
    with pytest.raises(ValueError, match="A prompt has 2 images"):
        image_processor([images[0] * 2], crop_to_patches=True)
