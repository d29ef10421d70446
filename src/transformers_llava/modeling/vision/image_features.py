"""Lay out the images of a batch, and join their tiles to one tensor of features."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import nn
from transformers.utils import logging

from ..configuration_open_llava import OpenLlavaConfig
from ..gpu_stand_in import stands_for_gpu
from ..images.tiling import ImageLayout, TilingRule, image_layout


logger = logging.get_logger(__name__)


ImageSizes = torch.Tensor | Sequence[Sequence[int]]


def batch_layouts(
    config: OpenLlavaConfig,
    pixel_values: torch.Tensor,
    image_sizes: ImageSizes | None = None,
    num_tiles: Sequence[int] | None = None,
) -> tuple[torch.Tensor, list[ImageLayout]]:
    """
    Tells what becomes of each image of a batch.

    Args:
        config ([`OpenLlavaConfig`]): The checkpoint's tiling rule.
        pixel_values (`torch.Tensor` of shape `(sum of num_tiles, 3, tile_size, tile_size)`): Or, padded with unused
            tiles, `(num_images, max_num_tiles, 3, tile_size, tile_size)`.
        image_sizes (`torch.Tensor` of shape `(num_images, 2)`, *optional*): `(height, width)`; needed for `anyres*`.
        num_tiles (`Sequence[int]`, *optional*): Tiles of each image. Needed only where a tiled checkpoint is shown
            some images as one tile and others cut, as LLaVA-NeXT is trained on samples with several images.

    Returns:
        Tiles `(sum of num_tiles, 3, tile_size, tile_size)`, and one layout per image.

    Raises:
        ValueError: If sizes are missing, or the tiles are not those that images of these sizes become.
    """
    rule = config.tiling_rule()
    if not rule.is_tiled:
        pixel_values = pixel_values.flatten(0, 1) if pixel_values.dim() == 5 else pixel_values
        return pixel_values, [image_layout((1, 1), rule)] * pixel_values.shape[0]
    if image_sizes is None:
        raise ValueError(
            f"image_aspect_ratio={rule.image_aspect_ratio!r} joins tiles by the image's own size, and "
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
        tiles = [image[: layout.num_tiles] for image, layout in zip(pixel_values, layouts, strict=True)]
        pixel_values = torch.cat(tiles)
    needed = sum(layout.num_tiles for layout in layouts)
    if pixel_values.shape[0] == needed:
        return pixel_values, layouts
    if num_tiles is None and pixel_values.shape[0] == len(sizes):  # every image as one tile
        return pixel_values, [image_layout(size, one_tile) for size in sizes]
    raise ValueError(
        f"`pixel_values` holds {pixel_values.shape[0]} tiles, but {len(sizes)} images of (width, height) "
        f"{_first(sizes)} need {needed}. They were probably prepared with other "
        "`image_grid_pinpoints`, or `image_sizes` has (width, height) where (height, width) belongs."
    )


def _layouts_of_counts(
    sizes: Sequence[tuple[int, int]], num_tiles: Sequence[int], rule: TilingRule, one_tile: TilingRule
) -> list[ImageLayout]:
    """An image of one tile is shown whole; of any other number, cut by the rule (which always gives two or more)."""
    counts = [int(count) for count in num_tiles]
    if len(counts) != len(sizes):
        raise ValueError(
            f"`num_tiles` counts {len(counts)} images and `image_sizes` {len(sizes)}, so tiles could not be told "
            "apart. Give one number per image, as the collators do."
        )
    layouts = [image_layout(size, one_tile if count == 1 else rule) for size, count in zip(sizes, counts)]
    wrong = [place for place, layout in enumerate(layouts) if layout.num_tiles != counts[place]]
    if wrong:
        place = wrong[0]
        raise ValueError(
            f"`num_tiles` says {counts[place]} for image {place} of (width, height) {sizes[place]}, which is cut "
            f"into {layouts[place].num_tiles}. Prepare images with the checkpoint's own `image_grid_pinpoints`."
        )
    return layouts


def _first(sizes: Sequence[tuple[int, int]]) -> str:
    return f"{list(sizes[:4])}{' ...' if len(sizes) > 4 else ''}"


logger = logging.get_logger(__name__)


def _has_row(config: OpenLlavaConfig) -> bool:
    return config.image_token_id < config.text_config.vocab_size


def image_positions(
    config: OpenLlavaConfig,
    input_ids: torch.Tensor | None,
    inputs_embeds: torch.Tensor,
    embed: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """
    Where images belong, `(batch_size, sequence_length)`.

    As elsewhere in transformers, without ids the embeddings are compared with that of the image id.
    """
    if input_ids is not None:
        return input_ids == config.image_token_id
    if not _has_row(config):
        raise ValueError(
            "Images were given with `inputs_embeds`, in which their positions cannot be recognized: the image id has "
            "no row in the embedding table. Give `input_ids`, or put the output of `get_image_features` into "
            "`inputs_embeds` yourself."
        )
    row = embed(torch.full((), config.image_token_id, dtype=torch.long, device=inputs_embeds.device))
    return (inputs_embeds == row.to(inputs_embeds)).all(-1)


def embed_ids(
    config: OpenLlavaConfig, input_ids: torch.Tensor, embed: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Embeddings `(batch_size, sequence_length, hidden_size)`; an image id without a row reads that of id 0."""
    if not _has_row(config):
        input_ids = input_ids.masked_fill(input_ids == config.image_token_id, 0)
    return embed(input_ids)


def scatter_features(
    inputs_embeds: torch.Tensor, is_image: torch.Tensor, image_features: torch.Tensor
) -> torch.Tensor:
    """
    Puts the n-th feature at the n-th image position.

    With `is_image = [0, 1, 1, 0, 1]` the running count gives rows `[-, 0, 1, -, 2]`; reading rows and choosing is
    faster than `masked_scatter` and needs no answer from the device.

    Args:
        inputs_embeds (`torch.Tensor` of shape `(batch_size, sequence_length, hidden_size)`)
        is_image (`torch.Tensor` of shape `(batch_size, sequence_length)`): Where an image's feature belongs.
        image_features (`torch.Tensor` of shape `(is_image.sum(), hidden_size)`): In the order of their positions.
    """
    is_image = is_image.to(inputs_embeds.device)  # with a device map the ids may lie elsewhere
    row = (is_image.flatten().cumsum(0) - 1).clamp(0, image_features.shape[0] - 1).view_as(is_image)
    return torch.where(is_image[..., None], image_features[row], inputs_embeds)


def _mismatch(num_positions: int, num_features: int) -> str:
    # The first sentence is that of the built-in classes, which TRL looks for.
    return (
        "Image features and image tokens do not match: "
        f"`input_ids` has {num_positions} image positions, but the images give {num_features} features. "
        + (
            "No images were given: pass `pixel_values`."
            if num_features == 0
            else "Either the sequence was truncated inside an image, or processor and model differ in image "
            "size, tiling or feature strategy: save and load them together, and do not truncate images."
        )
    )


def check_counts(is_image: torch.Tensor, num_features: int, *, allow_sync: bool) -> None:
    """
    Positions and features must be equally many.

    Args:
        is_image (`torch.Tensor` of shape `(batch_size, sequence_length)`)
        num_features (`int`): Features that the images gave.
        allow_sync (`bool`): Whether the host may wait for the device to count. If not, as in training, the device
            raises, later and with fewer words.
    """
    if torch.compiler.is_compiling() or (not allow_sync and (is_image.device.type != "cpu" or stands_for_gpu())):
        torch._assert_async(is_image.sum() == num_features, f"`input_ids` has not {num_features} image positions.")
        return
    num_positions = int(is_image.sum())
    if num_positions != num_features:
        raise ValueError(_mismatch(num_positions, num_features))


def check_no_image(is_image: torch.Tensor, *, is_training: bool) -> None:
    """
    Nothing was given for image positions: an error in training, a warning elsewhere.

    Contract: elsewhere in transformers image ids without pixels run as text; an assistant of speculative decoding is
    never shown the images, and tests of the library feed random ids.
    """
    if is_training:
        check_counts(is_image, 0, allow_sync=False)
    elif not torch.compiler.is_compiling() and bool(is_image.any()):
        logger.warning_once(
            "`input_ids` has image positions, but no images were given: they are read as text, and the answer is "
            "about no image. Pass `pixel_values`, as the processor returns them. (The assistant of "
            "speculative decoding is never shown images; its proposals are checked by the model that is.)"
        )


def _newline(image_newline: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    assert image_newline is not None, "a layout with newlines comes only from patch_merge_type='spatial_unpad'"
    return image_newline.to(like)


def _merge_grid(
    tiles: torch.Tensor, layout: ImageLayout, config: OpenLlavaConfig, image_newline: torch.Tensor | None
) -> torch.Tensor:
    """Tiles in reading order to one map over the whole canvas: cut, scaled, closed by newlines, read row by row."""
    side = config.tiling_rule().num_patches_per_side
    channels = tiles.shape[-1]
    grid = tiles.view(layout.rows, layout.columns, side, side, channels)
    grid = grid.permute(0, 2, 1, 3, 4).reshape(layout.rows * side, layout.columns * side, channels)
    if config.patch_merge_type == "spatial":
        return grid.flatten(0, 1)
    top, left = layout.crop_top, layout.crop_left
    grid = grid[top : grid.shape[0] - top, left : grid.shape[1] - left]
    if layout.is_scaled:
        size = (layout.map_height, layout.map_width)
        grid = nn.functional.interpolate(grid.permute(2, 0, 1)[None], size=size, mode="bilinear")[0].permute(1, 2, 0)
    newline = _newline(image_newline, grid).expand(grid.shape[0], 1, channels)
    return torch.cat([grid, newline], dim=1).flatten(0, 1)  # (map_height * (map_width + 1), hidden_size)


def merge_tiles(
    features: torch.Tensor, layouts: Sequence[ImageLayout], config: OpenLlavaConfig, image_newline: torch.Tensor | None
) -> list[torch.Tensor]:
    """
    Joins the tiles of each image to its sequence of embeddings.

    Args:
        features (`torch.Tensor` of shape `(sum of num_tiles, tokens_per_tile, hidden_size)`): Projected tiles, each
            image's whole view first.
        layouts (`Sequence[ImageLayout]`): One per image.

    Returns:
        One tensor `(layout.num_tokens, hidden_size)` per image.
    """
    merged = []
    for layout, tiles in zip(layouts, features.split([layout.num_tiles for layout in layouts]), strict=True):
        if layout.columns == 0:
            tokens = tiles[0]
            if layout.newlines:
                tokens = torch.cat([tokens, _newline(image_newline, tokens)[None]])
        elif config.patch_merge_type == "flat":
            tokens = tiles.flatten(0, 1)
        else:
            tokens = torch.cat([tiles[0], _merge_grid(tiles[1:], layout, config, image_newline)])
        merged.append(tokens)
    return merged


__all__ = [
    "ImageSizes",
    "batch_layouts",
    "check_counts",
    "check_no_image",
    "embed_ids",
    "image_positions",
    "merge_tiles",
    "scatter_features",
]
