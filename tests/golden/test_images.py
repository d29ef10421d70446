"""Geometry and pixels against tables that the original code bases computed."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from transformers_llava.modeling.image_processing_pil_open_llava import OpenLlavaImageProcessorPil
from transformers_llava.modeling.images.tiling import TilingRule, image_layout, select_best_resolution


@pytest.fixture(scope="module")
def tables(golden: Path) -> dict:
    return json.loads((golden / "utilities" / "image_utils.json").read_text())


@pytest.mark.parametrize("name", ["llava_v1_6", "string_grid"])
def test_recorded_anyres_tables(tables: dict, name: str) -> None:
    table = tables["anyres"][name]
    pinpoints = table["grid_pinpoints"]
    if isinstance(pinpoints, str):
        pinpoints = [(56, 112), (112, 56), (112, 112)]
        assert table["grid_pinpoints"] == str(pinpoints)
    pinpoints = tuple(map(tuple, pinpoints))
    side = table["patches_per_side"]
    unpad, spatial = (
        TilingRule(table["crop_size"], side, 0, "anyres", merge, pinpoints) for merge in ("spatial_unpad", "spatial")
    )
    assert len(table["rows"]) >= 10
    for row in table["rows"]:
        size = tuple(row["size_wh"])
        layout = image_layout(size, unpad)
        assert list(select_best_resolution(size, pinpoints)) == row["best_resolution_wh"]
        assert [layout.columns, layout.rows] == row["grid_shape_wh"]
        assert [layout.rows * side, layout.columns * side] == row["feature_grid_hw_before_unpad"]
        assert [layout.map_height, layout.map_width] == row["feature_grid_hw_after_unpad"]
        assert layout.num_tokens == row["visual_tokens_spatial_unpad"]
        assert image_layout(size, spatial).num_tokens == row["visual_tokens_spatial"]
        assert layout.num_tiles == row["crops"]


def test_recorded_anyres_max_tables(golden: Path) -> None:
    tables = json.loads((golden / "utilities" / "image_utils_next.json").read_text())["tables"]
    assert len(tables) == 3
    for table in tables:
        largest, crop = int(table["image_grid_pinpoints"][-2]), table["crop_size"]
        assert table["image_grid_pinpoints"] == f"(1x1),...,({largest}x{largest})"
        sides = range(1, largest + 1)
        pinpoints = tuple((i * crop, j * crop) for i in sides for j in sides)
        rule = TilingRule(
            crop, table["patches_per_side"], 0, table["image_aspect_ratio"], table["mm_patch_merge_type"], pinpoints
        )
        for row in table["rows"]:
            layout = image_layout(tuple(row["size_wh"]), rule)
            assert [layout.columns, layout.rows] == row["grid_shape_wh"]
            assert (layout.num_tiles, layout.num_tokens) == (row["crops"], row["visual_tokens"])


def test_recorded_padding_to_a_square(golden: Path, tables: dict) -> None:
    expected = load_file(golden / "utilities" / "image_utils.safetensors")
    for row in tables["expand2square"]:
        image = _channels_first(golden, row["image"])
        padded = OpenLlavaImageProcessorPil()._pad_to_square(image, row["background_rgb"])
        assert np.array_equal(np.moveaxis(padded, 0, -1), expected[f"expand2square/{row['image']}"])


def test_recorded_canvases(golden: Path, tables: dict) -> None:
    """The tiles of a single canvas, put together again, are the canvas that the original resized and padded."""
    processor = OpenLlavaImageProcessorPil(crop_size={"height": 56, "width": 56})
    for row in tables["resize_and_pad_image"]:
        width, height = row["target_wh"]
        tiles = processor._tile(_channels_first(golden, row["image"]), 56, ((width, height),))[1:]
        assert len(tiles) == row["patches_from_divide_to_patches"]
        rows = [np.concatenate(tiles[i : i + width // 56], axis=2) for i in range(0, len(tiles), width // 56)]
        canvas = np.ascontiguousarray(np.moveaxis(np.concatenate(rows, axis=1), 0, -1))
        assert hashlib.sha256(canvas.tobytes()).hexdigest() == row["sha256"]


def _channels_first(golden: Path, name: str) -> np.ndarray:
    return np.moveaxis(np.asarray(Image.open(golden / "images" / name).convert("RGB")), -1, 0)
