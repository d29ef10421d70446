"""Compare images to tensors and sizes to token counts, per second, with transformers' built-in PIL processors.

    python -m benchmarks.preprocessing --json benchmarks/results/cpu.json

Eight images of the sizes of COCO and TextVQA at CLIP-L/336. Ours gives the original code base's pixels bit for bit
(`docs/reference/fidelity.md`); how far the built-in ones are from that is in the notes of each line. Exit status 1 if
a target is missed.
"""

import random
import sys
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import LlavaNextProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from benchmarks.harness.command import main
from benchmarks.harness.processors import IMAGE_TOKEN_ID, make_image, make_processor
from benchmarks.harness.results import Comparison, compared
from benchmarks.harness.timing import cpu_seconds, take_turns
from transformers_llava import OpenLlavaConfig
from transformers_llava.modeling.image_processing_pil_open_llava import OpenLlavaImageProcessorPil


SIZES = [(640, 480), (480, 640), (640, 427), (500, 375), (612, 612), (1024, 768), (334, 500), (640, 640)]
PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
SIDE = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}
NUM_SIZES = 2000


def measure(repeats: int) -> list[Comparison]:
    """The lines of this question."""
    images = [make_image(*size, seed=number) for number, size in enumerate(SIZES)]
    pairs: dict[str, tuple[Any, Any, str]] = {
        "square": (
            OpenLlavaImageProcessorPil(image_aspect_ratio="square"),
            CLIPImageProcessorPil(**SIDE),
            "CLIPImageProcessorPil",
        ),
        "pad": (
            OpenLlavaImageProcessorPil(image_aspect_ratio="pad"),
            LlavaImageProcessorPil(**SIDE, do_pad=True),
            "LlavaImageProcessorPil, do_pad",
        ),
        "anyres": (
            OpenLlavaImageProcessorPil(image_aspect_ratio="anyres", image_grid_pinpoints=PINPOINTS),
            LlavaNextImageProcessorPil(**SIDE, image_grid_pinpoints=PINPOINTS),
            "LlavaNextImageProcessorPil",
        ),
    }
    lines = [_images(name, images, *pair, repeats) for name, pair in pairs.items()]
    return [*lines, _token_counts(repeats)]


def _images(name: str, images: list[Image.Image], ours: Any, builtin: Any, other_is: str, repeats: int) -> Comparison:
    def run(processor: Any) -> Any:
        return processor(images, return_tensors="pt")["pixel_values"]

    mine, theirs = run(ours), _tiles(run(builtin), run(ours))
    difference = (mine - theirs).abs()
    share = float((difference > 1e-5).float().mean())
    levels = float(difference.max()) / (1 / 255 / 0.26862954)
    assert mine.shape == theirs.shape
    assert share < 0.5, "another image altogether"
    if share == 0:
        checked = f"pixels differ by at most {float(difference.max()):.1g}"
    else:
        checked = f"the same shapes; {share:.1%} of the values differ, by up to {levels:.0f} of 255 levels"
    resized = _seconds_of_resizing(images)
    return compared(
        take_turns(lambda: run(ours), lambda: run(builtin), repeats=repeats),
        amount=len(images),
        unit="images/s",
        name=f"images, {name}",
        ours_is=f"OpenLlavaImageProcessorPil, {name}, {len(images)} decoded images",
        other_is=other_is,
        checked=checked,
        floor=round(len(images) / resized, 1),
        floor_is="PIL alone: each image resized once, its longer side to 336, and made an array",
    )


def _tiles(theirs: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The built-in anyres pads each image to as many tiles as the largest has; the unused ones are zeros."""
    if theirs.dim() == like.dim():
        return theirs
    kept = [image[: int((image.flatten(1).abs().sum(1) > 0).sum())] for image in theirs]
    return torch.cat(kept)


def _seconds_of_resizing(images: list[Image.Image]) -> float:
    best = float("inf")
    for _ in range(5):
        started = cpu_seconds()
        for image in images:
            scale = 336 / max(image.size)
            size = (round(image.width * scale), round(image.height * scale))
            np.asarray(image.resize(size, Image.Resampling.BICUBIC))
        best = min(best, cpu_seconds() - started)
    return best


def _token_counts(repeats: int) -> Comparison:
    """LLaVA-1.6's rule on many different sizes; no image exists."""
    config = OpenLlavaConfig(
        image_token_index=IMAGE_TOKEN_ID,
        image_aspect_ratio="anyres",
        image_grid_pinpoints=PINPOINTS,
        patch_merge_type="spatial_unpad",
    )
    ours = make_processor(config)
    builtin = LlavaNextProcessor(
        LlavaNextImageProcessorPil(**SIDE, image_grid_pinpoints=PINPOINTS),
        ours.tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
    )
    chance = random.Random(0)
    sizes = [(chance.randint(200, 1400), chance.randint(200, 1400)) for _ in range(NUM_SIZES)]  # (height, width)

    def run_ours(sizes: list[tuple[int, int]]) -> list[int]:
        return ours._get_num_multimodal_tokens(image_sizes=sizes)["num_image_tokens"]

    def run_builtin(sizes: list[tuple[int, int]]) -> list[int]:
        return builtin._get_num_multimodal_tokens(image_sizes=sizes)["num_image_tokens"]

    pairs = list(zip(run_ours(sizes), run_builtin(sizes), strict=True))
    equal = sum(mine == theirs for mine, theirs in pairs)
    return compared(
        take_turns(lambda: run_ours(sizes), lambda: run_builtin(sizes), repeats=repeats),
        amount=NUM_SIZES,
        unit="sizes/s",
        name="token counts from sizes",
        ours_is="the same method of our processor: LLaVA-1.6's rule, five canvases, all sizes in one call",
        other_is="LlavaNextProcessor._get_num_multimodal_tokens",
        checked=f"{equal:,} of {NUM_SIZES:,} counts equal",
    )


if __name__ == "__main__":
    sys.exit(main("preprocessing", measure, repeats=9, clock="CPU time"))
