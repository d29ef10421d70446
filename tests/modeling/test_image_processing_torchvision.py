"""The torchvision twin gives the PIL backend's tiles but for interpolation; it is tested where torchvision imports."""

import pytest
import torch

from tiny import PINPOINTS, make_image
from transformers_llava.modeling.image_processing_pil_open_llava import OpenLlavaImageProcessorPil


pytest.importorskip("torchvision", reason="torchvision is not installed", exc_type=Exception)


@pytest.mark.parametrize("aspect_ratio", ["square", "pad", "anyres"])
@pytest.mark.parametrize("size", [(40, 30), (30, 61), (56, 56)])
def test_tiles_equal_those_of_pil_but_for_interpolation(aspect_ratio: str, size: tuple[int, int]) -> None:
    from transformers_llava.modeling.image_processing_open_llava import OpenLlavaImageProcessor

    settings = {
        "size": {"shortest_edge": 28},
        "crop_size": {"height": 28, "width": 28},
        "image_aspect_ratio": aspect_ratio,
        "image_grid_pinpoints": PINPOINTS,
    }
    image = make_image(*size)
    expected, actual = (
        processor(**settings)(image, return_tensors="pt")
        for processor in (OpenLlavaImageProcessorPil, OpenLlavaImageProcessor)
    )
    assert torch.equal(expected["image_sizes"], actual["image_sizes"])
    assert expected["pixel_values"].shape == actual["pixel_values"].shape
    assert (expected["pixel_values"] - actual["pixel_values"]).abs().mean() < 0.01  # of noise, the hardest image
