"""Compute tiles, feature grids and token counts from image sizes: integer geometry, no pixels and no torch.

One function, [`image_layout`], answers "what becomes of an image of this size?". The processor expands `<image>` by
it, length counting sums it, the image processor cuts tiles by it and the model merges features by it, so that the four
cannot disagree.

Sizes are `(width, height)` as in PIL and in the original code base, unless a name says otherwise. The rules, rounding
included, are those of haotian-liu/LLaVA `llava/mm_utils.py` and `llava/model/llava_arch.py`, and of LLaVA-NeXT for
`anyres_max_N`.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


ASPECT_RATIO_PATTERN = re.compile(r"square|pad|anyres|anyres_max_([1-9]\d*)")
PATCH_MERGE_TYPES = ("flat", "spatial", "spatial_unpad")


@dataclass(frozen=True)
class TilingRule:
    """
    Everything besides an image's own size that decides how many tokens it becomes.

    Args:
        tile_size (`int`): Side of the square image that the vision tower takes, in pixels.
        num_patches_per_side (`int`): Side of the feature grid that one tile becomes after the projector.
        num_prefix_tokens (`int`, *optional*, defaults to 0): Tokens kept beside the grid (1 with a class token).
        image_aspect_ratio (`str`, *optional*, defaults to `"square"`): `square`, `pad`, `anyres` or `anyres_max_N`.
        patch_merge_type (`str`, *optional*, defaults to `"flat"`): `flat`, `spatial` or `spatial_unpad`.
        grid_pinpoints (`tuple[tuple[int, int], ...]`, *optional*): Canvas sizes `(width, height)` for `anyres*`, in
            the stored order: of equally good canvases the first wins.
        single_tile_newline (`bool`, *optional*, defaults to `False`): Whether an image shown as one tile is closed
            by the newline vector (LLaVA-NeXT does that to each image of a multi-image sample).
    """

    tile_size: int
    num_patches_per_side: int
    num_prefix_tokens: int = 0
    image_aspect_ratio: str = "square"
    patch_merge_type: str = "flat"
    grid_pinpoints: tuple[tuple[int, int], ...] = ()
    single_tile_newline: bool = False

    def __post_init__(self) -> None:
        check_aspect_ratio(self.image_aspect_ratio)
        check_patch_merge_type(self.patch_merge_type)
        if self.is_tiled:
            check_grid_pinpoints(self.grid_pinpoints, self.tile_size, self.image_aspect_ratio)
            if self.num_prefix_tokens and self.patch_merge_type != "flat":
                raise ValueError(
                    f"image_aspect_ratio={self.image_aspect_ratio!r} with patch_merge_type={self.patch_merge_type!r} "
                    "lays patches out as a map, and a class token has no place in it. Use "
                    "vision_feature_select_strategy='default' (patches only) or patch_merge_type='flat'."
                )

    @property
    def is_tiled(self) -> bool:
        return self.image_aspect_ratio.startswith("anyres")

    @property
    def max_num_tiles(self) -> int | None:
        """The `N` of `anyres_max_N`: feature maps beyond that many tiles are scaled down."""
        number = self.image_aspect_ratio.partition("_max_")[2]  # the pattern was checked when the rule was made
        return int(number) if number else None

    @property
    def tokens_per_tile(self) -> int:
        return self.num_patches_per_side**2 + self.num_prefix_tokens


class ImageLayout(NamedTuple):
    """
    What becomes of one image. A named tuple, because counting the tokens of a mixture makes one for every size.

    Attributes:
        num_tiles (`int`): Rows of `pixel_values` it takes: 1, or 1 + columns x rows (the whole image comes first).
        columns, rows (`int`): Tiles of the canvas; 0 where the image is not tiled.
        crop_top, crop_left (`int`): Feature rows (columns) cut at the top *and* the bottom (left *and* right).
        map_height, map_width (`int`): Feature map after the cut and, for `anyres_max_N`, after scaling down.
        is_scaled (`bool`): Whether the map is scaled to `(map_height, map_width)`.
        newlines (`int`): Newline vectors in the sequence.
        num_tokens (`int`): Positions the image takes in the sequence.
    """

    num_tiles: int
    columns: int
    rows: int
    crop_top: int
    crop_left: int
    map_height: int
    map_width: int
    is_scaled: bool
    newlines: int
    num_tokens: int


def image_layout(size: tuple[int, int], rule: TilingRule) -> ImageLayout:
    """
    Tells what becomes of an image of `size`.

    Args:
        size (`tuple[int, int]`): `(width, height)` of the image in pixels.
        rule ([`TilingRule`]): The checkpoint's rule.

    Returns:
        [`ImageLayout`]

    Example:

    ```python
    >>> from transformers_llava.modeling.images.tiling import TilingRule, image_layout

    >>> pinpoints = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
    >>> rule = TilingRule(336, 24, 0, "anyres", "spatial_unpad", pinpoints)
    >>> image_layout((640, 480), rule).num_tokens  # 576 + 36 * (48 + 1)
    2340
    ```
    """
    width, height = size
    if width < 1 or height < 1:
        raise ValueError(f"An image needs at least one pixel a side, this one has (width, height) = {size}.")
    side = rule.num_patches_per_side
    if not rule.is_tiled:
        newlines = int(rule.single_tile_newline)
        return ImageLayout(1, 0, 0, 0, 0, side, side, False, newlines, rule.tokens_per_tile + newlines)

    canvas_width, canvas_height = select_best_resolution(size, rule.grid_pinpoints)
    columns, rows = canvas_width // rule.tile_size, canvas_height // rule.tile_size
    num_tiles = 1 + columns * rows
    map_height, map_width = rows * side, columns * side
    if rule.patch_merge_type != "spatial_unpad":
        num_tokens = num_tiles * rule.tokens_per_tile
        return ImageLayout(num_tiles, columns, rows, 0, 0, map_height, map_width, False, 0, num_tokens)

    crop_top, crop_left = unpad_crop(size, map_height, map_width)
    map_height, map_width = map_height - 2 * crop_top, map_width - 2 * crop_left
    is_scaled = False
    if rule.max_num_tiles is not None:
        times = math.sqrt(map_height * map_width / (rule.max_num_tiles * side**2))
        if times > 1.1:  # not 1.0: maps up to 1.21 times the budget are kept as they are
            is_scaled = True
            map_height, map_width = int(map_height // times), int(map_width // times)
    num_tokens = rule.tokens_per_tile + map_height * (map_width + 1)
    return ImageLayout(
        num_tiles, columns, rows, crop_top, crop_left, map_height, map_width, is_scaled, map_height, num_tokens
    )


def select_best_resolution(size: tuple[int, int], grid_pinpoints: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """The canvas `(width, height)` that keeps most of the image's pixels, then wastes least; on ties the first."""
    width, height = size
    area = width * height
    best: tuple[int, int] | None = None
    best_effective, least_waste = 0, math.inf
    for canvas_width, canvas_height in grid_pinpoints:
        scale, other_scale = canvas_width / width, canvas_height / height
        if other_scale < scale:
            scale = other_scale
        effective = int(width * scale) * int(height * scale)
        if effective > area:  # spelled out: `min` would be half of the time of this function
            effective = area
        waste = canvas_width * canvas_height - effective
        if best is None or effective > best_effective or (effective == best_effective and waste < least_waste):
            best, best_effective, least_waste = (canvas_width, canvas_height), effective, waste
    if best is None:
        raise ValueError("There is no canvas to choose from: `image_grid_pinpoints` is empty.")
    return best


def resized_size(size: tuple[int, int], canvas: tuple[int, int]) -> tuple[int, int]:
    """`(width, height)` of the image on its canvas: as large as fits, the free side rounded *up*."""
    (width, height), (canvas_width, canvas_height) = size, canvas
    scale_width, scale_height = canvas_width / width, canvas_height / height
    if scale_width < scale_height:
        return canvas_width, min(math.ceil(height * scale_width), canvas_height)
    return min(math.ceil(width * scale_height), canvas_width), canvas_height


def unpad_crop(size: tuple[int, int], map_height: int, map_width: int) -> tuple[int, int]:
    """
    Feature rows and columns that show canvas but no image of `size`: `(crop_top, crop_left)`, cut on both sides.

    An odd remainder keeps one padded row: of 7 rows, 4 with image, (7 - 4) // 2 = 1 goes on each side and 5 stay.
    A very flat image can lose every row. Rounding is the original's plain truncation; the built-in
    `llava_next` rounds `int(round(x, 7))`, which differs for about one size in 300,000.
    """
    width, height = size
    if width / height > map_width / map_height:
        shown = int(height * (map_width / width))
        return (map_height - shown) // 2, 0
    shown = int(width * (map_height / height))
    return 0, (map_width - shown) // 2


def check_aspect_ratio(image_aspect_ratio: str) -> None:
    if not ASPECT_RATIO_PATTERN.fullmatch(image_aspect_ratio):
        raise ValueError(
            f"image_aspect_ratio={image_aspect_ratio!r} is not known, so images could not be prepared as they were "
            "in training. Use one of 'square', 'pad', 'anyres', 'anyres_max_N' (N a number, such as anyres_max_9)."
        )


def check_patch_merge_type(patch_merge_type: str) -> None:
    if patch_merge_type not in PATCH_MERGE_TYPES:
        raise ValueError(
            f"patch_merge_type={patch_merge_type!r} is not known, so tiles could not be merged. "
            f"Use one of {', '.join(map(repr, PATCH_MERGE_TYPES))}."
        )


def check_grid_pinpoints(
    grid_pinpoints: Iterable[tuple[int, int]] | None, tile_size: int, image_aspect_ratio: str
) -> None:
    pinpoints = tuple(grid_pinpoints or ())
    if not pinpoints:
        raise ValueError(
            f"image_aspect_ratio={image_aspect_ratio!r} needs `image_grid_pinpoints`, a list of canvas sizes "
            "[width, height], and there is none. Add them, or use 'square' or 'pad'."
        )
    for canvas in pinpoints:
        if len(canvas) != 2 or min(canvas) < tile_size or canvas[0] % tile_size or canvas[1] % tile_size:
            raise ValueError(
                f"image_grid_pinpoints has {list(canvas)}, which cannot be cut into tiles of {tile_size} pixels. "
                f"Each entry must be [width, height] in multiples of {tile_size}, the input size of the vision tower."
            )


__all__ = ["ImageLayout", "TilingRule", "image_layout", "resized_size", "select_best_resolution", "unpad_crop"]
