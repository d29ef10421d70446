"""Pictures to normalised square tiles with PIL and NumPy: bit-equal to the original code base's preprocessing."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, PILImageResampling, SizeDict
from transformers.processing_utils import ImagesKwargs, Unpack
from transformers.utils import TensorType

from .images.image_opening import load_image, to_8_bit
from .images.tile_counts import TileCountsMixin
from .images.tiling import check_aspect_ratio, check_grid_pinpoints, resized_size, select_best_resolution


_THIN = 32  # times as long as wide: no photograph, and no panorama
_LARGE_SQUARE = 8_000**2  # pixels of a padded square: 200 MB


class OpenLlavaImageProcessorKwargs(ImagesKwargs, total=False):  # type: ignore[call-arg]
    """
    Args:
        image_aspect_ratio (`str`): `square`, `pad`, `anyres` or `anyres_max_N`, see [`OpenLlavaConfig`].
        image_grid_pinpoints (`list[list[int]]`): Canvases `[width, height]` for `anyres*`, in order.
    """

    image_aspect_ratio: str
    image_grid_pinpoints: list[list[int]]


class OpenLlavaImageProcessorPil(TileCountsMixin, PilBackend):
    r"""
    Turns pictures into the tiles that the vision tower takes.

    - `square`: what the tower's own processor does: shortest edge to `size`, centre crop (CLIP); or, with
      `do_center_crop=False` and a `size` of height and width, squashed (SigLIP).
    - `pad`: padded to a square with the mean colour, then as `square`. The odd pixel goes to the bottom or right.
    - `anyres`, `anyres_max_N`: the whole picture squashed to one tile, then the tiles of the best canvas, row by row.

    Returns `pixel_values` `(sum of num_tiles, 3, tile_size, tile_size)`, pictures one after another, and `image_sizes`
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

    model_input_names = ["pixel_values", "image_sizes"]
    valid_kwargs = OpenLlavaImageProcessorKwargs
    resample = PILImageResampling.BICUBIC
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    size = {"shortest_edge": 336}
    default_to_square = False
    crop_size = {"height": 336, "width": 336}
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
        images: list[np.ndarray],
        do_resize: bool,
        size: SizeDict,
        resample: "PILImageResampling | None",
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
        **kwargs: object,
    ) -> BatchFeature:
        check_aspect_ratio(image_aspect_ratio)
        tile_size = tile_size_of(size, crop_size, do_center_crop)
        pinpoints = tuple((int(w), int(h)) for w, h in image_grid_pinpoints or ())
        if image_aspect_ratio.startswith("anyres"):
            check_grid_pinpoints(pinpoints, tile_size, image_aspect_ratio)

        tiles: list[np.ndarray] = []
        for image in images:  # (3, height, width)
            if image_aspect_ratio.startswith("anyres"):
                tiles += self._tile(image, tile_size, pinpoints)
                continue
            image = keep_middle(image, size, crop_size) if do_center_crop and image_aspect_ratio != "pad" else image
            if image_aspect_ratio == "pad":
                image = self._fit_if_thin(image, size) if do_resize else image
                image = _pad_to_square(image, padding_color(image_mean, is_unit_range=_is_unit_range(image)))
            if do_resize:
                image = self._resize(image, size, resample)
            tiles.append(self.center_crop(image, crop_size) if do_center_crop else image)
        pixel_values = [
            self._to_floats(tile, do_rescale, rescale_factor, do_normalize, image_mean, image_std) for tile in tiles
        ]
        same_shape = len({tile.shape for tile in pixel_values}) == 1
        data = {
            "pixel_values": np.stack(pixel_values) if same_shape else pixel_values,
            "image_sizes": [image.shape[-2:] for image in images],
        }
        return BatchFeature(data, tensor_type=return_tensors)

    def _fit_if_thin(self, image: np.ndarray, size: SizeDict) -> np.ndarray:
        fitted = fitted_size(image.shape[-2:], size)
        return (
            image
            if fitted is None
            else self._resize(image, SizeDict(height=fitted[0], width=fitted[1]), self.resample)
        )

    def _tile(self, image: np.ndarray, tile_size: int, pinpoints: tuple[tuple[int, int], ...]) -> list[np.ndarray]:
        """The whole picture squashed to one tile, then the tiles of the best canvas; black around, bicubic."""
        height, width = image.shape[-2:]
        canvas_width, canvas_height = select_best_resolution((width, height), pinpoints)
        new_width, new_height = resized_size((width, height), (canvas_width, canvas_height))
        whole = SizeDict(height=tile_size, width=tile_size)
        fitted = SizeDict(height=new_height, width=new_width)
        canvas = np.zeros((image.shape[0], canvas_height, canvas_width), dtype=image.dtype)
        top, left = (canvas_height - new_height) // 2, (canvas_width - new_width) // 2
        resized = self._resize(image, fitted, PILImageResampling.BICUBIC)
        canvas[:, top : top + new_height, left : left + new_width] = resized
        tiles = [self._resize(image, whole, PILImageResampling.BICUBIC)]
        for y in range(0, canvas_height, tile_size):
            tiles += [canvas[:, y : y + tile_size, x : x + tile_size] for x in range(0, canvas_width, tile_size)]
        return tiles

    def _resize(self, image: np.ndarray, size: SizeDict, resample: "PILImageResampling | None") -> np.ndarray:
        """`resize`, without its conversions where the picture is 8-bit RGB and the target size is given."""
        if not (size.height and size.width) or image.dtype != np.uint8 or image.shape[0] != 3:
            return self.resize(image, size, resample)
        if image.shape[-2:] == (size.height, size.width):
            return image
        picture = Image.fromarray(np.ascontiguousarray(np.moveaxis(image, 0, -1)))
        resample = PILImageResampling.BILINEAR if resample is None else resample
        resized = picture.resize((size.width, size.height), resample)
        return np.moveaxis(np.asarray(resized), -1, 0)

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


def tile_size_of(size: SizeDict | dict, crop_size: SizeDict | dict | None, do_center_crop: bool | None) -> int:
    """Side of the square tiles that these settings give, in pixels."""
    target = crop_size if do_center_crop else size
    height = target["height"] if target is not None and "height" in target else None
    width = target["width"] if target is not None and "width" in target else None
    if not height or height != width:
        raise ValueError(
            f"The vision tower takes square tiles, but size={size}, crop_size={crop_size} and "
            f"do_center_crop={do_center_crop} do not end in a square. Give `crop_size` with equal height and "
            "width, or do_center_crop=False and a `size` with equal height and width."
        )
    return int(height)


def keep_middle(image: Any, size: SizeDict, crop_size: SizeDict) -> Any:
    """
    `image` `(..., height, width)` without the ends of its longer side, if that is `_THIN` times the shorter one.

    Enlarged so that its shorter side is 336, a strip of 1 x 4,000 pixels would have 450 million, of which the centre
    crop keeps 336 x 336. Pixels that the crop takes are far from what is cut off; others are left as they are.
    """
    height, width = image.shape[-2:]
    shorter, longer = sorted((height, width))
    kept = shorter * _THIN
    if (
        not size.shortest_edge
        or longer <= kept
        or 2 * max(crop_size.height, crop_size.width) > size.shortest_edge * _THIN
    ):
        return image
    start = (longer - kept) // 2
    end = longer - start  # as much on both sides, so that the middle stays the middle
    return image[..., start:end, :] if height > width else image[..., start:end]


def fitted_size(image_size: Sequence[int], size: SizeDict) -> tuple[int, int] | None:
    """
    (height, width) to which a thin image is scaled before it is padded instead of after it; `None` for any other.

    Only where the padded square would be large by itself, and eight times the image: others stay bit-equal.
    """
    height, width = image_size
    longer = max(height, width)
    if longer**2 <= max(_LARGE_SQUARE, 8 * height * width):
        return None
    side = size.shortest_edge or size.height
    return max(1, round(height * side / longer)), max(1, round(width * side / longer))


def padding_color(image_mean: Sequence[float], *, is_unit_range: bool) -> list[float]:
    """The mean colour in whole 8-bit levels, cut and not rounded: (122, 116, 104) for CLIP; or those over 255."""
    levels = [int(255 * channel) for channel in image_mean]
    return [level / 255 if is_unit_range else level for level in levels]


def _is_unit_range(image: np.ndarray) -> bool:
    return np.issubdtype(image.dtype, np.floating) and bool(image.max(initial=0.0) <= 1.0)


def _pad_to_square(image: np.ndarray, color: Sequence[float]) -> np.ndarray:
    channels, height, width = image.shape
    if height == width:
        return image
    side = max(height, width)
    square = np.empty((channels, side, side), dtype=image.dtype)
    square[:] = np.asarray(color, dtype=image.dtype)[:, None, None]
    top, left = (side - height) // 2, (side - width) // 2
    square[:, top : top + height, left : left + width] = image
    return square


@lru_cache(maxsize=16)
def _normalized_levels(scale: float, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """`(3, 256)`: each 8-bit level per channel after rescaling and normalising, in the original's precision steps."""
    levels = (np.arange(256, dtype=np.float64) * scale).astype(np.float32)
    return (levels - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None]


__all__ = [
    "OpenLlavaImageProcessorKwargs",
    "OpenLlavaImageProcessorPil",
    "fitted_size",
    "keep_middle",
    "padding_color",
    "tile_size_of",
]
