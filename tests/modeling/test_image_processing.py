"""Pixels: bit-equal to the library's slow path, square tiles whatever comes in, clear refusals."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from tiny import PINPOINTS, make_image
from transformers_llava.modeling.image_processing_pil_open_llava import OpenLlavaImageProcessorPil


SQUARE = {"height": 28, "width": 28}
CLIP = {"size": {"shortest_edge": 28}, "crop_size": SQUARE}


def make_processor(**kwargs: object) -> OpenLlavaImageProcessorPil:
    return OpenLlavaImageProcessorPil(**{**CLIP, **kwargs})


@pytest.mark.parametrize("size", [(40, 30), (30, 41), (28, 28), (13, 57)])
def test_square_is_the_clip_preprocessing_bit_for_bit(size: tuple[int, int]) -> None:
    image = make_image(*size)
    expected = CLIPImageProcessorPil(**CLIP)(image, return_tensors="pt")["pixel_values"]
    assert torch.equal(make_processor()(image, return_tensors="pt")["pixel_values"], expected)


@pytest.mark.parametrize("size", [(40, 30), (30, 41), (28, 28), (13, 57)])
def test_pad_is_the_padded_preprocessing_bit_for_bit(size: tuple[int, int]) -> None:
    image = make_image(*size)
    expected = LlavaImageProcessorPil(**CLIP, do_pad=True)(image, return_tensors="pt")["pixel_values"]
    actual = make_processor(image_aspect_ratio="pad")(image, return_tensors="pt")["pixel_values"]
    assert torch.equal(actual, expected)


def test_the_odd_row_of_padding_goes_below() -> None:
    white = Image.new("RGB", (3, 2), "white")
    processor = OpenLlavaImageProcessorPil(
        size={"height": 3, "width": 3}, do_center_crop=False, image_aspect_ratio="pad", do_normalize=False
    )
    red = processor(white, return_tensors="np")["pixel_values"][0, 0]
    assert red[:, 0].tolist() == pytest.approx([1.0, 1.0, 122 / 255])


def test_siglip_style_size_squashes() -> None:
    image = Image.new("RGB", (56, 28))
    image.paste("white", (0, 0, 28, 28))
    tile = make_processor(size=SQUARE, do_center_crop=False)(image, return_tensors="pt")["pixel_values"][0]
    assert tile.shape == (3, 28, 28)
    assert (
        tile[0, 0, 0] != tile[0, 0, -1]
    )  # the centre crop would have kept both halves' inner parts, too, but at scale 1


def test_anyres_gives_the_whole_image_then_the_canvas_row_by_row() -> None:
    image = make_image(56, 56)
    batch = make_processor(image_aspect_ratio="anyres", image_grid_pinpoints=PINPOINTS)(image, return_tensors="pt")
    tiles = batch["pixel_values"]
    assert tiles.shape == (5, 3, 28, 28)
    plain = make_processor(size={"height": 56, "width": 56}, do_center_crop=False)
    canvas = plain(image, return_tensors="pt")["pixel_values"][0]
    assert torch.equal(tiles[2], canvas[:, :28, 28:])  # second tile of the first row
    assert torch.equal(tiles[3], canvas[:, 28:, :28])
    assert batch["image_sizes"].tolist() == [[56, 56]]


def test_images_of_one_batch_follow_one_another() -> None:
    processor = make_processor(image_aspect_ratio="anyres", image_grid_pinpoints=PINPOINTS)
    batch = processor([make_image(20, 60), make_image(60, 60)], return_tensors="pt")
    assert batch["pixel_values"].shape[0] == 3 + 5
    assert batch["image_sizes"].tolist() == [[60, 20], [60, 60]]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "I;16"])
def test_every_image_mode_becomes_rgb(mode: str) -> None:
    image = Image.new(mode, (30, 30))
    assert make_processor()(image, return_tensors="pt")["pixel_values"].shape == (1, 3, 28, 28)


def test_arrays_and_tensors_give_what_the_image_gives() -> None:
    image = make_image()
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    expected = make_processor(image_aspect_ratio="pad")(image, return_tensors="pt")["pixel_values"]
    for same in (array, tensor):
        actual = make_processor(image_aspect_ratio="pad")(same, return_tensors="pt")["pixel_values"]
        assert torch.equal(actual, expected)


def test_floats_between_0_and_1_are_padded_with_the_same_colour() -> None:
    image = np.asarray(make_image()).astype(np.float32) / 255
    processor = make_processor(image_aspect_ratio="pad")
    floats = processor(image, do_rescale=False, return_tensors="pt")["pixel_values"]
    eight_bit = processor(make_image(), return_tensors="pt")["pixel_values"]
    assert torch.allclose(floats, eight_bit, atol=0.02)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_aspect_ratio": "crop"}, "image_aspect_ratio='crop'"),
        ({"image_aspect_ratio": "anyres"}, "image_grid_pinpoints"),
        ({"crop_size": {"height": 28, "width": 56}}, "square tiles"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_processor(**settings)(make_image())
