"""Turn images into normalised square tiles with PIL and NumPy: bit-equal to the original's preprocessing."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import PILImageResampling, SizeDict
from transformers.processing_utils import Unpack
from transformers.utils import TensorType

from .images.square_tiles import OpenLlavaImageProcessorKwargs, SquareTilesMixin


class OpenLlavaImageProcessorPil(SquareTilesMixin, PilBackend):
    r"""
    Turns images into the tiles that the vision tower takes.

    - `square`: what the tower's own processor does: shortest edge to `size`, centre crop (CLIP); or, with
      `do_center_crop=False` and a `size` of height and width, squashed (SigLIP).
    - `pad`: padded to a square with the mean colour, then as `square`. The odd pixel goes to the bottom or right.
    - `anyres`, `anyres_max_N`: the whole image squashed to one tile, then the tiles of the best canvas, row by row.

    Returns `pixel_values` `(sum of num_tiles, 3, tile_size, tile_size)`, images one after another, and `image_sizes`
    `(num_images, 2)` with `(height, width)` before processing. Source: haotian-liu/LLaVA `llava/mm_utils.py`.

    Example:

    ```python
    >>> from PIL import Image
    >>> from transformers_llava.modeling.image_processing_pil_open_llava import OpenLlavaImageProcessorPil

    >>> processor = OpenLlavaImageProcessorPil(image_aspect_ratio="pad")
    >>> batch = processor(Image.new("RGB", (640, 480)), return_tensors="pt")
    >>> batch["pixel_values"].shape, batch["image_sizes"].tolist()
    (torch.Size([1, 3, 336, 336]), [[480, 640]])
    ```
    """

    def __init__(self, **kwargs: Unpack[OpenLlavaImageProcessorKwargs]) -> None:
        super().__init__(**kwargs)

    def _preprocess(
        self,
        images: list[np.ndarray],
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: Sequence[float],
        image_std: Sequence[float],
        return_tensors: str | TensorType | None,
        **settings: Any,
    ) -> BatchFeature:
        pixel_values = [
            self._to_floats(tile, do_rescale, rescale_factor, do_normalize, image_mean, image_std)
            for tile in self._square_tiles(images, image_mean=image_mean, **settings)
        ]
        same_shape = len({tile.shape for tile in pixel_values}) == 1
        data = {
            "pixel_values": np.stack(pixel_values) if same_shape else pixel_values,
            "image_sizes": [image.shape[-2:] for image in images],
        }
        return BatchFeature(data, tensor_type=return_tensors)

    def _resize(self, image: np.ndarray, size: SizeDict, resample: "PILImageResampling | None") -> np.ndarray:
        """`resize`, without its conversions where the image is 8-bit RGB and the target size is given."""
        if not (size.height and size.width) or image.dtype != np.uint8 or image.shape[0] != 3:
            return self.resize(image, size, resample)
        if image.shape[-2:] == (size.height, size.width):
            return image
        pil_image = Image.fromarray(np.ascontiguousarray(np.moveaxis(image, 0, -1)))
        resample = PILImageResampling.BILINEAR if resample is None else resample
        resized = pil_image.resize((size.width, size.height), resample)
        return np.moveaxis(np.asarray(resized), -1, 0)

    @staticmethod
    def _filled(image: np.ndarray, height: int, width: int, color: Sequence[float] | None = None) -> np.ndarray:
        """An array like `image` of another size, black or of one colour."""
        filled = np.zeros((image.shape[0], height, width), dtype=image.dtype)
        if color is not None:
            filled[:] = np.asarray(color, dtype=image.dtype)[:, None, None]
        return filled

    @staticmethod
    def _is_unit_range(image: np.ndarray) -> bool:
        return np.issubdtype(image.dtype, np.floating) and bool(image.max(initial=0.0) <= 1.0)

    def _to_floats(
        self,
        tile: np.ndarray,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: Sequence[float],
        image_std: Sequence[float],
    ) -> np.ndarray:
        """Rescales and normalises; 8-bit pixels by a table of their 256 possible results."""
        if tile.dtype == np.uint8 and tile.shape[0] == 3 and do_rescale and do_normalize:
            table = _normalized_levels(rescale_factor, tuple(image_mean), tuple(image_std))
            return np.stack([levels[channel] for levels, channel in zip(table, tile, strict=True)])
        if do_rescale:
            tile = self.rescale(tile, rescale_factor)
        if do_normalize:
            tile = self.normalize(tile, image_mean, image_std)
        return tile.astype(np.float32)


@lru_cache(maxsize=16)
def _normalized_levels(scale: float, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """`(3, 256)`: each 8-bit level per channel after rescaling and normalising, in the original's precision steps."""
    levels = (np.arange(256, dtype=np.float64) * scale).astype(np.float32)
    return (levels - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None]


__all__ = ["OpenLlavaImageProcessorPil"]
