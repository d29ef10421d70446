"""How many tokens an image costs: the published worked examples, the recorded tables, and 20,000 random sizes."""

import random

import pytest
import torch

from tiny import make_config
from transformers_llava.modeling.images.tiling import TilingRule, image_layout, resized_size
from transformers_llava.modeling.vision.image_features import merge_tiles


V16 = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
ONEVISION = tuple((384 * i, 384 * j) for i in range(1, 7) for j in range(1, 7))


@pytest.mark.parametrize(
    ("size", "tokens"),
    [
        ((336, 336), 1176),  # the tall canvas wins the tie: first in the list
        ((300, 200), 976),
        ((640, 480), 2340),
        ((480, 640), 2352),
        ((1024, 1024), 2928),
        ((1000, 300), 2182),
        ((300, 3000), 1224),
        ((10000, 100), 576),  # every row of the map is unpadded away
    ],
)
def test_llava_1_6_token_counts(size: tuple[int, int], tokens: int) -> None:
    rule = TilingRule(336, 24, 0, "anyres", "spatial_unpad", V16)
    assert image_layout(size, rule).num_tokens == tokens


@pytest.mark.parametrize(
    ("size", "tokens"), [((384, 384), 1485), ((1024, 1024), 7371), ((1920, 1080), 7269), ((4000, 3000), 7309)]
)
def test_onevision_token_counts(size: tuple[int, int], tokens: int) -> None:
    rule = TilingRule(384, 27, 0, "anyres_max_9", "spatial_unpad", ONEVISION)
    assert image_layout(size, rule).num_tokens == tokens


@pytest.mark.parametrize("aspect_ratio", ["square", "pad"])
def test_one_tile_costs_its_patches_whatever_the_size(aspect_ratio: str) -> None:
    rule = TilingRule(336, 24, 0, aspect_ratio)
    assert {image_layout(size, rule).num_tokens for size in [(1, 1), (17, 4000), (336, 336)]} == {576}


def test_spatial_keeps_every_patch_and_flat_keeps_the_class_token_too() -> None:
    assert image_layout((300, 200), TilingRule(336, 24, 0, "anyres", "spatial", V16)).num_tokens == 3 * 576
    assert image_layout((300, 200), TilingRule(336, 24, 1, "anyres", "flat", V16)).num_tokens == 3 * 577


def test_resizing_rounds_the_free_side_up() -> None:
    assert resized_size((500, 375), (672, 672)) == (672, 505)  # 504 in exact arithmetic


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_aspect_ratio": "crop"}, "image_aspect_ratio='crop' is not known"),
        ({"image_aspect_ratio": "anyres_max_0"}, "anyres_max_0"),
        ({"patch_merge_type": "unpad"}, "patch_merge_type='unpad'"),
        ({"image_aspect_ratio": "anyres"}, "image_grid_pinpoints"),
        ({"image_aspect_ratio": "anyres", "grid_pinpoints": ((100, 336),)}, r"\[100, 336\]"),
        (
            {
                "image_aspect_ratio": "anyres",
                "grid_pinpoints": V16,
                "patch_merge_type": "spatial",
                "num_prefix_tokens": 1,
            },
            "class token",
        ),
    ],
)
def test_what_cannot_be_laid_out_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TilingRule(**{"tile_size": 336, "num_patches_per_side": 24, **changes})


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(0, 5\)"):
        image_layout((0, 5), TilingRule(336, 24))


def test_model_and_count_agree_on_20000_random_sizes() -> None:
    """The real merge on features of one channel has as many rows as the count says, for every mode."""
    rng = random.Random(0)
    modes = [
        (mode, merge, pinpoints)
        for mode in ("anyres", "anyres_max_2", "anyres_max_9")
        for merge in ("flat", "spatial", "spatial_unpad")
        for pinpoints in (V16, ONEVISION)
    ]
    modes += [(mode, "flat", ()) for mode in ("square", "pad")]
    cases = 0
    for mode, merge, pinpoints in modes:
        tile = 384 if pinpoints is ONEVISION else 336
        side = 27 if pinpoints is ONEVISION else 24
        config = make_config(
            image_aspect_ratio=mode,
            patch_merge_type=merge,
            image_grid_pinpoints=[[28 * w // tile, 28 * h // tile] for w, h in pinpoints],
        )
        config.vision_config.image_size, config.vision_config.patch_size = tile, 14
        config.image_grid_pinpoints = [list(canvas) for canvas in pinpoints]
        rule = config.tiling_rule()
        newline = torch.zeros(1) if config.has_image_newline else None
        features: dict[int, torch.Tensor] = {}
        for _ in range(1000):
            size = (int(4000 ** rng.random()), int(4000 ** rng.random()))
            layout = image_layout(size, rule)
            tiles = features.setdefault(layout.num_tiles, torch.zeros(layout.num_tiles, side * side, 1))
            (merged,) = merge_tiles(tiles, [layout], config, newline)
            assert merged.shape[0] == layout.num_tokens, (size, rule)
            cases += 1
    assert cases == 20_000
