"""Cut images into square tiles by steps that do not depend on what computes them, PIL or torchvision."""

from collections.abc import Sequence
from typing import Any

from PIL import Image
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, PILImageResampling, SizeDict
from transformers.processing_utils import ImagesKwargs

from .image_opening import load_image, to_8_bit
from .tile_counts import TileCountsMixin
from .tiling import check_aspect_ratio, check_grid_pinpoints, resized_size, select_best_resolution


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


class SquareTilesMixin(TileCountsMixin):
    """
    Settings and steps of both image processors.

    A backend brings arrays of its own kind `(channels, height, width)`, and for them `center_crop`, `_resize`,
    `_filled` and `_is_unit_range`.
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
        return super().fetch_images(image_url_or_urls)  # type: ignore[misc]

    def process_image(self, image: Any, do_convert_rgb: bool | None = None, **kwargs: Any) -> Any:
        """One image to an array; 16-bit grey keeps its content, which the conversion to RGB would clip."""
        if do_convert_rgb and isinstance(image, Image.Image):
            image = to_8_bit(image)
        return super().process_image(image, do_convert_rgb, **kwargs)  # type: ignore[misc]

    def _square_tiles(
        self,
        images: Sequence[Any],
        *,
        do_resize: bool,
        size: SizeDict,
        resample: Any,
        do_center_crop: bool,
        crop_size: SizeDict,
        image_mean: Sequence[float],
        image_aspect_ratio: str,
        image_grid_pinpoints: list[list[int]] | None,
        **_: Any,
    ) -> list[Any]:
        """The tiles of all images, one after another, not yet rescaled and normalised."""
        check_aspect_ratio(image_aspect_ratio)
        tile_size = tile_size_of(size, crop_size, do_center_crop)
        pinpoints = tuple((int(w), int(h)) for w, h in image_grid_pinpoints or ())
        if image_aspect_ratio.startswith("anyres"):
            check_grid_pinpoints(pinpoints, tile_size, image_aspect_ratio)

        tiles: list[Any] = []
        for image in images:  # (3, height, width)
            if image_aspect_ratio.startswith("anyres"):
                tiles += self._tile(image, tile_size, pinpoints)
                continue
            image = keep_middle(image, size, crop_size) if do_center_crop and image_aspect_ratio != "pad" else image
            if image_aspect_ratio == "pad":
                image = self._fit_if_thin(image, size) if do_resize else image
                is_unit_range = self._is_unit_range(image)  # type: ignore[attr-defined]
                image = self._pad_to_square(image, padding_color(image_mean, is_unit_range=is_unit_range))
            if do_resize:
                image = self._resize(image, size, resample)  # type: ignore[attr-defined]
            tiles.append(self.center_crop(image, crop_size) if do_center_crop else image)  # type: ignore[attr-defined]
        return tiles

    def _fit_if_thin(self, image: Any, size: SizeDict) -> Any:
        fitted = fitted_size(image.shape[-2:], size)
        if fitted is None:
            return image
        target = SizeDict(height=fitted[0], width=fitted[1])
        return self._resize(image, target, self.resample)  # type: ignore[attr-defined]

    def _tile(self, image: Any, tile_size: int, pinpoints: tuple[tuple[int, int], ...]) -> list[Any]:
        """The whole image squashed to one tile, then the tiles of the best canvas; black around, bicubic."""
        height, width = image.shape[-2:]
        canvas_width, canvas_height = select_best_resolution((width, height), pinpoints)
        new_width, new_height = resized_size((width, height), (canvas_width, canvas_height))
        resize = self._resize  # type: ignore[attr-defined]
        fitted = resize(image, SizeDict(height=new_height, width=new_width), PILImageResampling.BICUBIC)
        canvas = self._filled(image, canvas_height, canvas_width)  # type: ignore[attr-defined]
        paste_in_middle(canvas, fitted)
        tiles = [resize(image, SizeDict(height=tile_size, width=tile_size), PILImageResampling.BICUBIC)]
        for y in range(0, canvas_height, tile_size):
            tiles += [canvas[:, y : y + tile_size, x : x + tile_size] for x in range(0, canvas_width, tile_size)]
        return tiles

    def _pad_to_square(self, image: Any, color: Sequence[float]) -> Any:
        height, width = image.shape[-2:]
        if height == width:
            return image
        side = max(height, width)
        square = self._filled(image, side, side, color)  # type: ignore[attr-defined]
        paste_in_middle(square, image)
        return square


def paste_in_middle(canvas: Any, image: Any) -> None:
    """Puts `image` into the middle of `canvas`; an odd row or column of the border is at the bottom or right."""
    height, width = image.shape[-2:]
    top, left = (canvas.shape[-2] - height) // 2, (canvas.shape[-1] - width) // 2
    canvas[:, top : top + height, left : left + width] = image


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


__all__ = [
    "OpenLlavaImageProcessorKwargs",
    "SquareTilesMixin",
    "fitted_size",
    "keep_middle",
    "padding_color",
    "tile_size_of",
]
