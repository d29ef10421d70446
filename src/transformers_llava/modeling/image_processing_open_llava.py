"""Pictures to normalised square tiles with torchvision: the faster twin of the PIL backend, on CPU or GPU.

Tiles, paddings and counts are those of the PIL backend. Interpolation is torchvision's own: single pixel values differ
from the original's, on pure noise by 0.006 in the mean. Where bit-equality matters, load with `backend="pil"`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import SizeDict
from transformers.processing_utils import Unpack
from transformers.utils import TensorType

from .image_processing_pil_open_llava import (
    OpenLlavaImageProcessorKwargs,
    OpenLlavaImageProcessorPil,
    fitted_size,
    keep_middle,
    padding_color,
    tile_size_of,
)
from .images.image_opening import load_image, to_8_bit
from .images.tile_counts import TileCountsMixin
from .images.tiling import check_aspect_ratio, check_grid_pinpoints, resized_size, select_best_resolution


class OpenLlavaImageProcessor(TileCountsMixin, TorchvisionBackend):
    """See [`OpenLlavaImageProcessorPil`], whose settings and outputs it shares."""

    model_input_names = OpenLlavaImageProcessorPil.model_input_names
    valid_kwargs = OpenLlavaImageProcessorKwargs
    resample = OpenLlavaImageProcessorPil.resample
    image_mean = OpenLlavaImageProcessorPil.image_mean
    image_std = OpenLlavaImageProcessorPil.image_std
    size = OpenLlavaImageProcessorPil.size
    default_to_square = False
    crop_size = OpenLlavaImageProcessorPil.crop_size
    do_resize = True
    do_center_crop = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    image_aspect_ratio = "square"
    image_grid_pinpoints: list[list[int]] | None = None

    def __init__(self, **kwargs: Unpack[OpenLlavaImageProcessorKwargs]) -> None:
        super().__init__(**kwargs)

    @property
    def tile_size(self) -> int:
        """Side of the tiles in pixels."""
        return tile_size_of(self.size, self.crop_size, self.do_center_crop)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoImageProcessor") -> None:
        """Does nothing: the class belongs to an installed package, and a copy of this one file could not run alone."""

    def fetch_images(self, image_url_or_urls: Any) -> Any:
        """Images as they are; paths, addresses and base64 are opened by an allow-list of formats."""
        if isinstance(image_url_or_urls, str):
            return load_image(image_url_or_urls)
        return super().fetch_images(image_url_or_urls)

    def process_image(self, image: Any, do_convert_rgb: bool | None = None, **kwargs: Any) -> Any:
        """One image to an array; 16-bit grey keeps its content, which the conversion to RGB would clip."""
        if do_convert_rgb and isinstance(image, Image.Image):
            image = to_8_bit(image)
        return super().process_image(image, do_convert_rgb, **kwargs)

    def _preprocess(
        self,
        images: list[torch.Tensor],
        do_resize: bool,
        size: SizeDict,
        resample: Any,
        do_center_crop: bool,
        crop_size: SizeDict,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: Sequence[float],
        image_std: Sequence[float],
        image_aspect_ratio: str,
        image_grid_pinpoints: list[list[int]] | None,
        return_tensors: str | TensorType | None,
        **kwargs: Any,
    ) -> BatchFeature:
        check_aspect_ratio(image_aspect_ratio)
        tile_size = tile_size_of(size, crop_size, do_center_crop)
        pinpoints = tuple((int(w), int(h)) for w, h in image_grid_pinpoints or ())
        if image_aspect_ratio.startswith("anyres"):
            check_grid_pinpoints(pinpoints, tile_size, image_aspect_ratio)

        tiles: list[torch.Tensor] = []
        for image in images:  # (3, height, width)
            if image_aspect_ratio.startswith("anyres"):
                tiles += self._tile(image, tile_size, pinpoints)
                continue
            image = keep_middle(image, size, crop_size) if do_center_crop and image_aspect_ratio != "pad" else image
            if image_aspect_ratio == "pad":
                image = self._fit_if_thin(image, size) if do_resize else image
                image = _pad_to_square(image, padding_color(image_mean, is_unit_range=_is_unit_range(image)))
            if do_resize:
                image = self.resize(image, size, resample)
            tiles.append(self.center_crop(image, crop_size) if do_center_crop else image)
        pixel_values = self.rescale_and_normalize(
            torch.stack(tiles), do_rescale, rescale_factor, do_normalize, tuple(image_mean), tuple(image_std)
        )
        data = {"pixel_values": pixel_values.float(), "image_sizes": [tuple(image.shape[-2:]) for image in images]}
        return BatchFeature(data, tensor_type=return_tensors)

    def _fit_if_thin(self, image: torch.Tensor, size: SizeDict) -> torch.Tensor:
        fitted = fitted_size(image.shape[-2:], size)
        return (
            image if fitted is None else self.resize(image, SizeDict(height=fitted[0], width=fitted[1]), self.resample)
        )

    def _tile(self, image: torch.Tensor, tile_size: int, pinpoints: tuple[tuple[int, int], ...]) -> list[torch.Tensor]:
        """The whole picture squashed to one tile, then the tiles of the best canvas; black around, bicubic."""
        height, width = image.shape[-2:]
        canvas_width, canvas_height = select_best_resolution((width, height), pinpoints)
        new_width, new_height = resized_size((width, height), (canvas_width, canvas_height))
        bicubic = OpenLlavaImageProcessorPil.resample
        canvas = image.new_zeros(image.shape[0], canvas_height, canvas_width)
        top, left = (canvas_height - new_height) // 2, (canvas_width - new_width) // 2
        fitted = self.resize(image, SizeDict(height=new_height, width=new_width), bicubic)
        canvas[:, top : top + new_height, left : left + new_width] = fitted
        tiles = [self.resize(image, SizeDict(height=tile_size, width=tile_size), bicubic)]
        for y in range(0, canvas_height, tile_size):
            tiles += [canvas[:, y : y + tile_size, x : x + tile_size] for x in range(0, canvas_width, tile_size)]
        return tiles


def _is_unit_range(image: torch.Tensor) -> bool:
    return image.is_floating_point() and bool(image.max() <= 1.0)


def _pad_to_square(image: torch.Tensor, color: Sequence[float]) -> torch.Tensor:
    height, width = image.shape[-2:]
    if height == width:
        return image
    side = max(height, width)
    square = torch.tensor(color, dtype=image.dtype, device=image.device)[:, None, None].repeat(1, side, side)
    top, left = (side - height) // 2, (side - width) // 2
    square[:, top : top + height, left : left + width] = image
    return square


__all__ = ["OpenLlavaImageProcessor"]
