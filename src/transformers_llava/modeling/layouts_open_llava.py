"""The pictures of a batch to one layout each, and their tiles to one tensor."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from .configuration_open_llava import OpenLlavaConfig
from .tiling_open_llava import ImageLayout, TilingRule, image_layout


ImageSizes = torch.Tensor | Sequence[Sequence[int]]


def batch_layouts(
    config: OpenLlavaConfig,
    pixel_values: torch.Tensor,
    image_sizes: ImageSizes | None = None,
    num_tiles: Sequence[int] | None = None,
) -> tuple[torch.Tensor, list[ImageLayout]]:
    """
    Tells what becomes of each picture of a batch.

    Args:
        config ([`OpenLlavaConfig`]): The checkpoint's tiling rule.
        pixel_values (`torch.Tensor` of shape `(sum of num_tiles, 3, tile_size, tile_size)`): Or, padded with unused
            tiles, `(num_images, max_num_tiles, 3, tile_size, tile_size)`.
        image_sizes (`torch.Tensor` of shape `(num_images, 2)`, *optional*): `(height, width)`; needed for `anyres*`.
        num_tiles (`Sequence[int]`, *optional*): Tiles of each picture. Needed only where a tiled checkpoint is shown
            some pictures as one tile and others cut, as LLaVA-NeXT is trained on samples with several pictures.

    Returns:
        Tiles `(sum of num_tiles, 3, tile_size, tile_size)`, and one layout per picture.

    Raises:
        ValueError: If sizes are missing, or the tiles are not those that pictures of these sizes become.
    """
    rule = config.tiling_rule()
    if not rule.is_tiled:
        pixel_values = pixel_values.flatten(0, 1) if pixel_values.dim() == 5 else pixel_values
        return pixel_values, [image_layout((1, 1), rule)] * pixel_values.shape[0]
    if image_sizes is None:
        raise ValueError(
            f"image_aspect_ratio={rule.image_aspect_ratio!r} joins tiles by the picture's own size, and "
            "`image_sizes` was not given. Pass the `image_sizes` (height, width) that the processor returns "
            "beside `pixel_values`."
        )
    pairs = image_sizes.tolist() if isinstance(image_sizes, torch.Tensor) else image_sizes
    sizes = [(int(width), int(height)) for height, width in pairs]
    one_tile = replace(rule, image_aspect_ratio="pad", single_tile_newline=config.has_image_newline)
    if num_tiles is not None:
        layouts = _layouts_of_counts(sizes, num_tiles, rule, one_tile)
    else:
        layouts = [image_layout(size, rule) for size in sizes]
    if pixel_values.dim() == 5:
        tiles = [picture[: layout.num_tiles] for picture, layout in zip(pixel_values, layouts, strict=True)]
        pixel_values = torch.cat(tiles)
    needed = sum(layout.num_tiles for layout in layouts)
    if pixel_values.shape[0] == needed:
        return pixel_values, layouts
    if num_tiles is None and pixel_values.shape[0] == len(sizes):  # every picture as one tile
        return pixel_values, [image_layout(size, one_tile) for size in sizes]
    raise ValueError(
        f"`pixel_values` holds {pixel_values.shape[0]} tiles, but {len(sizes)} pictures of (width, height) "
        f"{_first(sizes)} need {needed}. They were probably prepared with other "
        "`image_grid_pinpoints`, or `image_sizes` has (width, height) where (height, width) belongs."
    )


def _layouts_of_counts(
    sizes: Sequence[tuple[int, int]], num_tiles: Sequence[int], rule: TilingRule, one_tile: TilingRule
) -> list[ImageLayout]:
    """A picture of one tile is shown whole; of any other number, cut by the rule (which always gives two or more)."""
    counts = [int(count) for count in num_tiles]
    if len(counts) != len(sizes):
        raise ValueError(
            f"`num_tiles` counts {len(counts)} pictures and `image_sizes` {len(sizes)}, so tiles could not be told "
            "apart. Give one number per picture, as the collators do."
        )
    layouts = [image_layout(size, one_tile if count == 1 else rule) for size, count in zip(sizes, counts)]
    wrong = [place for place, layout in enumerate(layouts) if layout.num_tiles != counts[place]]
    if wrong:
        place = wrong[0]
        raise ValueError(
            f"`num_tiles` says {counts[place]} for picture {place} of (width, height) {sizes[place]}, which is cut "
            f"into {layouts[place].num_tiles}. Prepare pictures with the checkpoint's own `image_grid_pinpoints`."
        )
    return layouts


def _first(sizes: Sequence[tuple[int, int]]) -> str:
    return f"{list(sizes[:4])}{' ...' if len(sizes) > 4 else ''}"


__all__ = ["ImageSizes", "batch_layouts"]
