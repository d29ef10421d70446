"""Train a small CLIP contrastively on images with captions, and save its vision tower as a `CLIPVisionModel`."""

import math
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.nn import functional
from tqdm.auto import tqdm
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerBase
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from transformers_llava.demo.base_models.training_loop import mean_of_last, minimize


@dataclass(frozen=True)
class VisionTowerSettings:
    """
    Sizes and training of the demo's CLIP.

    Args:
        image_size (`int`, *optional*, defaults to 32): Side of the square that an image is scaled to.
        patch_size (`int`, *optional*, defaults to 8): Side of a patch: 4 x 4 patches are 16 image tokens.
        hidden_size (`int`, *optional*, defaults to 128): Width of the vision tower.
        num_layers (`int`, *optional*, defaults to 4): Layers of the vision tower; LLaVA reads the last but one.
        text_hidden_size (`int`, *optional*, defaults to 64): Width of the text tower, which is thrown away.
        text_num_layers (`int`, *optional*, defaults to 2): Layers of the text tower.
        projection_size (`int`, *optional*, defaults to 64): Width of the space where images and captions meet.
        num_steps (`int`, *optional*, defaults to 600): Optimizer steps.
        batch_size (`int`, *optional*, defaults to 96): Pairs per step, each a negative for all others.
        learning_rate (`float`, *optional*, defaults to 1e-3): Peak of the cosine schedule.
        weight_decay (`float`, *optional*, defaults to 0.05): Of AdamW, on matrices.
        warmup_ratio (`float`, *optional*, defaults to 0.05): Share of the steps with a rising learning rate.
        max_grad_norm (`float`, *optional*, defaults to 1.0): Where the gradient is clipped.
    """

    image_size: int = 32
    patch_size: int = 8
    hidden_size: int = 128
    num_layers: int = 4
    text_hidden_size: int = 64
    text_num_layers: int = 2
    projection_size: int = 64
    num_steps: int = 600
    batch_size: int = 96
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_ratio: float = 0.05
    max_grad_norm: float = 1.0


def pretrain_vision_tower(
    pairs: Sequence[tuple[Path, str]],
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    seed: int,
    settings: VisionTowerSettings | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """
    Trains a CLIP from random weights on images and captions, and saves its vision half with its preprocessing.

    Several images of a batch may have the same caption; each is then matched with that one caption, so that no
    image counts as a negative of its own description.

    Args:
        pairs (`Sequence[tuple[Path, str]]`): Image files and their captions.
        tokenizer (`PreTrainedTokenizerBase`): Of the captions.
        folder (`Path`): Where the tower goes, as `AutoModel` loads it.
        seed (`int`): Of the weights and of the order of the pairs.
        settings ([`VisionTowerSettings`], *optional*): Sizes and training.
        progress (`bool`, *optional*, defaults to `False`): Whether to draw a progress bar.

    Returns:
        `dict`: Settings, first and last loss, share of images matched right in the last batches, seconds.
    """
    started = time.perf_counter()
    settings = settings or VisionTowerSettings()
    torch.manual_seed(seed)
    rng = random.Random(f"vision-tower-{seed}")
    model = CLIPModel(_config(settings, tokenizer)).train()
    _write_positions(model.vision_model.embeddings.position_embedding.weight, settings)
    processor = _processor(settings)
    pixels = _read_images([path for path, _ in pairs], processor, progress)  # (num_pairs, 3, image_size, image_size)
    caption_ids = {caption: tokenizer(caption).input_ids + [tokenizer.eos_token_id] for _, caption in pairs}
    matched = []

    def compute_loss() -> torch.Tensor:
        chosen = rng.sample(range(len(pairs)), min(settings.batch_size, len(pairs)))
        captions = sorted({pairs[index][1] for index in chosen})
        target = torch.tensor([captions.index(pairs[index][1]) for index in chosen])
        input_ids = _pad([caption_ids[caption] for caption in captions], tokenizer.pad_token_id)
        logits = _similarities(model, pixels[chosen], input_ids)  # (images, captions)
        matched.append((logits.argmax(dim=1) == target).float().mean().item())
        return _contrastive_loss(logits, target)

    groups = _decay_groups(model, settings)
    losses = minimize(model, groups, compute_loss, settings, title="vision tower (contrastive)", progress=progress)
    model.vision_model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return {
        "settings": asdict(settings),
        "num_pairs": len(pairs),
        "num_parameters": sum(parameter.numel() for parameter in model.vision_model.parameters()),
        "first_loss": losses[0],
        "last_loss": mean_of_last(losses),
        "matched": mean_of_last(matched),
        "seconds": round(time.perf_counter() - started, 1),
    }


def _config(settings: VisionTowerSettings, tokenizer: PreTrainedTokenizerBase) -> CLIPConfig:
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": settings.text_hidden_size,
        "intermediate_size": 3 * settings.text_hidden_size,
        "num_hidden_layers": settings.text_num_layers,
        "num_attention_heads": settings.text_hidden_size // 32,
        "max_position_embeddings": 64,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": settings.hidden_size,
        "intermediate_size": 3 * settings.hidden_size,
        "num_hidden_layers": settings.num_layers,
        "num_attention_heads": settings.hidden_size // 32,
        "image_size": settings.image_size,
        "patch_size": settings.patch_size,
    }
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=settings.projection_size)


@torch.no_grad()
def _write_positions(weight: torch.Tensor, settings: VisionTowerSettings) -> None:
    """
    Starts the position embeddings of the patches from sines and cosines of row and column, as ViTs often do.

    From CLIP's own tiny random numbers a few hundred steps do not teach the patches where they are, and a language
    model that reads them in a row tells above from below, but hardly left from right.
    """
    side = settings.image_size // settings.patch_size
    waves = math.pi * torch.arange(1, settings.hidden_size // 4 + 1) / (settings.hidden_size // 4)
    steps = torch.arange(side) + 0.5
    rows, columns = (grid.flatten()[:, None] * waves for grid in torch.meshgrid(steps, steps, indexing="ij"))
    weight[1:] = 0.5 * torch.cat([rows.sin(), rows.cos(), columns.sin(), columns.cos()], dim=1)


def _processor(settings: VisionTowerSettings) -> CLIPImageProcessorPil:
    side = settings.image_size
    return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def _read_images(paths: Sequence[Path], processor: CLIPImageProcessorPil, progress: bool) -> torch.Tensor:
    images = []
    for path in tqdm(paths, desc="vision tower: reading images", disable=not progress):
        with Image.open(path) as image:
            images.append(processor(image.convert("RGB"), return_tensors="pt")["pixel_values"][0])
    return torch.stack(images)


def _decay_groups(model: CLIPModel, settings: VisionTowerSettings) -> list[dict[str, Any]]:
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    return [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def _pad(sequences: Sequence[list[int]], pad_token_id: int) -> torch.Tensor:
    longest = max(map(len, sequences))
    return torch.tensor([ids + [pad_token_id] * (longest - len(ids)) for ids in sequences])


def _similarities(model: CLIPModel, pixels: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
    images = functional.normalize(model.get_image_features(pixel_values=pixels).pooler_output, dim=-1)
    captions = functional.normalize(model.get_text_features(input_ids=input_ids).pooler_output, dim=-1)
    return model.logit_scale.exp().clamp(max=100) * images @ captions.T


def _contrastive_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """CLIP's symmetric loss; a caption of several images is matched with all of them evenly."""
    images_to_captions = functional.cross_entropy(logits, target)
    belongs = functional.one_hot(target, logits.shape[1]).T.to(logits.dtype)  # (captions, images)
    captions_to_images = functional.cross_entropy(logits.T, belongs / belongs.sum(dim=1, keepdim=True))
    return (images_to_captions + captions_to_images) / 2


__all__ = ["VisionTowerSettings", "pretrain_vision_tower"]
