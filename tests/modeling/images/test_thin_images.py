"""Images that are far longer than wide: bounded memory, the same pixels, and every ordinary image untouched."""

import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.utils import is_torchvision_available

from transformers_llava.modeling.image_processing_open_llava import OpenLlavaImageProcessor
from transformers_llava.modeling.image_processing_pil_open_llava import OpenLlavaImageProcessorPil
from transformers_llava.modeling.images import square_tiles as module


TORCHVISION = pytest.mark.skipif(not is_torchvision_available(), reason="torchvision is not installed")
BACKENDS = [OpenLlavaImageProcessorPil, pytest.param(OpenLlavaImageProcessor, marks=TORCHVISION)]
LIMIT = 256 << 20  # of NumPy and Python; what PIL and torch hold is as large as what they hand over


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def levels(processor, image: Image.Image, **kwargs) -> np.ndarray:
    batch = processor(image, return_tensors="pt", do_rescale=False, do_normalize=False, **kwargs)
    assert batch["image_sizes"].tolist() == [[image.height, image.width]]
    return batch["pixel_values"].numpy()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(1, 4000), (20_000, 1), (300_000, 2)])
@pytest.mark.parametrize("rule", ["square", "pad", "anyres"])
def test_a_strip_costs_little_memory(backend, size, rule, monkeypatch: pytest.MonkeyPatch) -> None:
    pinpoints = {"image_grid_pinpoints": [[336, 672], [672, 336]]} if rule == "anyres" else {}
    largest = []
    resize = backend.resize

    def watched(self, image, *args, **kwargs):
        resized = resize(self, image, *args, **kwargs)
        largest.append(max(image.shape[-1] * image.shape[-2], resized.shape[-1] * resized.shape[-2]))
        return resized

    monkeypatch.setattr(backend, "resize", watched)
    tracemalloc.start()
    try:
        tiles = levels(backend(image_aspect_ratio=rule, **pinpoints), noise(*size))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert tiles.shape == (3 if rule == "anyres" else 1, 3, 336, 336)
    assert peak < LIMIT
    assert max(largest, default=0) < 20_000_000


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(9, 400), (401, 8), (350, 10), (3, 97)])
def test_the_middle_of_a_strip_has_the_pixels_of_the_whole_strip(backend, size, monkeypatch) -> None:
    image = noise(*size)
    bounded = levels(backend(), image)
    monkeypatch.setattr(module, "_THIN", 10**6)
    difference = np.abs(levels(backend(), image) - bounded)
    assert difference.max() <= 8  # of noise: the scale of the whole strip is rounded to its own pixels
    assert difference.mean() < 1.5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(1000, 9), (9, 1000)])
def test_a_strip_that_is_fitted_first_is_padded_alike(backend, size, monkeypatch) -> None:
    image = Image.new("RGB", size, (200, 30, 90))
    whole = levels(backend(image_aspect_ratio="pad"), image)
    monkeypatch.setattr(module, "_LARGE_SQUARE", 900_000)
    fitted = levels(backend(image_aspect_ratio="pad"), image)
    assert fitted.shape == whole.shape
    assert np.abs(fitted - whole).mean() < 1
    assert np.abs(fitted - whole)[0, :, 168, 168].max() < 10


@pytest.mark.parametrize("size", [(640, 480), (100, 3200), (3000, 100), (7, 5), (4000, 1000)])
def test_ordinary_images_take_the_way_they_took(size: tuple[int, int]) -> None:
    pixels = torch.zeros(3, size[1], size[0])
    sizes = module.SizeDict(shortest_edge=336), module.SizeDict(height=336, width=336)
    assert module.keep_middle(pixels, *sizes) is pixels
    assert module.fitted_size(pixels.shape[-2:], sizes[0]) is None
