"""Build a model with random weights of real or small shapes on a device, and batches of the recipe's lengths."""

import random
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from transformers_llava import OpenLlavaConfig, OpenLlavaForConditionalGeneration


@dataclass(frozen=True)
class Shapes:
    """What decides the work: of CLIP, of Llama, of the samples, and how often something is timed."""

    vision_hidden: int = 1024
    vision_layers: int = 24
    vision_heads: int = 16
    image_size: int = 336
    hidden: int = 4096
    intermediate: int = 11008
    layers: int = 32
    heads: int = 32
    vocabulary: int = 32064
    image_token: int = 260  # what a tokenizer of bytes gives `<image>`, see harness/processors.py
    dtype: torch.dtype = torch.bfloat16
    repeats: int = 5
    num_examples: int = 16  # of one micro-step on one GPU
    text_divisor: int = 1  # text of the dry run is that much shorter

    @property
    def image_tokens(self) -> int:
        return (self.image_size // 14) ** 2


REAL = Shapes()
DRY = Shapes(
    vision_hidden=32,
    vision_layers=3,
    vision_heads=2,
    image_size=28,
    hidden=64,
    intermediate=96,
    layers=2,
    heads=4,
    vocabulary=320,
    dtype=torch.float32,
    repeats=2,
    num_examples=4,
    text_divisor=32,
)


def vision_config(shapes: Shapes) -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=shapes.vision_hidden,
        intermediate_size=4 * shapes.vision_hidden,
        num_hidden_layers=shapes.vision_layers,
        num_attention_heads=shapes.vision_heads,
        image_size=shapes.image_size,
        patch_size=14,
    )


def text_config(shapes: Shapes) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=shapes.vocabulary,
        hidden_size=shapes.hidden,
        intermediate_size=shapes.intermediate,
        num_hidden_layers=shapes.layers,
        num_attention_heads=shapes.heads,
        num_key_value_heads=shapes.heads,
        max_position_embeddings=8192,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )


def make_ours(shapes: Shapes, device: str, attention: str = "sdpa") -> OpenLlavaForConditionalGeneration:
    """Our model, its weights drawn on the device in the precision in which they are used."""
    config = OpenLlavaConfig(
        vision_config=vision_config(shapes), text_config=text_config(shapes), image_token_index=shapes.image_token
    )
    torch.manual_seed(0)
    with torch.device(device):
        return OpenLlavaForConditionalGeneration._from_config(
            config, dtype=shapes.dtype, attn_implementation=attention
        )


def make_builtin(shapes: Shapes, device: str) -> LlavaForConditionalGeneration:
    """The built-in model of the same shapes, with sdpa."""
    config = LlavaConfig(
        vision_config=vision_config(shapes),
        text_config=text_config(shapes),
        image_token_index=shapes.image_token,
        image_seq_length=shapes.image_tokens,
    )
    torch.manual_seed(0)
    with torch.device(device):
        return LlavaForConditionalGeneration._from_config(config, dtype=shapes.dtype, attn_implementation="sdpa")


def fewer_layers(shapes: Shapes, layers: int) -> Shapes:
    return replace(shapes, layers=min(layers, shapes.layers))


@dataclass(frozen=True)
class Sample:
    """Tokens of one example."""

    text: int
    supervised: int
    has_image: bool


def stage_samples(shapes: Shapes, stage: int, *, seed: int = 0) -> list[Sample]:
    """
    Samples as the recipe's: stage 1 an image and a caption of 20 tokens; stage 2 drawn from the mixture.

    Text lengths of stage 2 are quantiles of what `benchmarks/stand_in.py` gives with LLaVA-1.5's template, 94 of 100
    with an image.
    """
    if stage == 1:
        return [Sample(max(4, 20 // shapes.text_divisor), 4, True)] * shapes.num_examples
    chance = random.Random(seed)
    samples = []
    for _ in range(shapes.num_examples):
        has_image = chance.random() < 0.94
        text = chance.choice(TEXT_LENGTHS if has_image else TEXT_ONLY_LENGTHS) // shapes.text_divisor
        samples.append(Sample(max(4, text), max(2, text // 3), has_image))
    return samples


# Deciles of text tokens (5 %, 15 %, ... 95 %) of the stand-in's examples: `python -m benchmarks.gpu.lengths`.
TEXT_LENGTHS = (139, 189, 259, 305, 356, 402, 478, 555, 722, 1014)
TEXT_ONLY_LENGTHS = (302, 431, 631, 812, 990, 1175, 1348, 1485, 1709, 1883)


def packed_batch(shapes: Shapes, samples: list[Sample], device: str) -> dict[str, Any]:
    """One row without padding, by the contract of `PackedCollator`."""
    rows = _rows(shapes, samples)
    lengths = [len(ids) for ids, _ in rows]
    labels = [label.clone() for _, label in rows]
    for label in labels:
        label[0] = -100
    borders = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32).to(device)
    return {
        "input_ids": torch.cat([ids for ids, _ in rows])[None].to(device),
        "labels": torch.cat(labels)[None].to(device),
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None].to(device),
        "cu_seq_lens_q": borders,
        "cu_seq_lens_k": borders,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
        "pixel_values": _pixels(shapes, samples, device),
    }


def padded_batch(shapes: Shapes, samples: list[Sample], device: str) -> dict[str, Any]:
    """One row for each sample, padded on the right to the longest."""
    rows = _rows(shapes, samples)
    pad = torch.nn.utils.rnn.pad_sequence
    lengths = torch.tensor([len(ids) for ids, _ in rows])
    return {
        "input_ids": pad([ids for ids, _ in rows], batch_first=True).to(device),
        "labels": pad([label for _, label in rows], batch_first=True, padding_value=-100).to(device),
        "attention_mask": (torch.arange(int(lengths.max()))[None] < lengths[:, None]).long().to(device),
        "pixel_values": _pixels(shapes, samples, device),
    }


def num_tokens(shapes: Shapes, samples: list[Sample]) -> int:
    """Useful tokens: images and text, no padding."""
    return sum(sample.text + (shapes.image_tokens if sample.has_image else 0) for sample in samples)


def _rows(shapes: Shapes, samples: list[Sample]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    rows = []
    for sample in samples:
        text = torch.randint(3, shapes.image_token - 1, (sample.text,), generator=generator)
        image = torch.full((shapes.image_tokens if sample.has_image else 0,), shapes.image_token)
        ids = torch.cat([text[:2], image, text[2:]])
        labels = torch.full_like(ids, -100)
        labels[-sample.supervised :] = ids[-sample.supervised :]
        rows.append((ids, labels))
    return rows


def _pixels(shapes: Shapes, samples: list[Sample], device: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    count = sum(sample.has_image for sample in samples)
    pixels = torch.randn(count, 3, shapes.image_size, shapes.image_size, generator=generator)
    return pixels.to(device, shapes.dtype)


__all__ = [
    "DRY",
    "REAL",
    "Sample",
    "Shapes",
    "fewer_layers",
    "make_builtin",
    "make_ours",
    "num_tokens",
    "packed_batch",
    "padded_batch",
    "stage_samples",
]
