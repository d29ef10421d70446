"""Count the tiles of each image for trainers that cut a batch of tiles into samples."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.image_processing_utils import BatchFeature

from .tiling import TilingRule, image_layout


class TileCountsMixin:
    """
    Answers TRL's question for tile counts.

    `GRPOTrainer` and `RLOOTrainer` ask every image processor whose `pixel_values` are tiles in one row for the tiles
    of each image, in InternVL's words: `image_processor(images, crop_to_patches=True)["num_patches"]`.
    """

    def __call__(self, images: Any, *args: Any, crop_to_patches: bool = False, **kwargs: Any) -> BatchFeature:
        """As the library's; with `crop_to_patches=True` the result also has `num_patches` `(num_images,)`."""
        batch = super().__call__(images, *args, **kwargs)  # type: ignore[misc]
        if crop_to_patches:
            _check_one_image_each(images)
            rule = self._tiling_rule(**kwargs)
            sizes = [(int(width), int(height)) for height, width in batch["image_sizes"]]
            batch["num_patches"] = torch.tensor([image_layout(size, rule).num_tiles for size in sizes])
        return batch

    def _tiling_rule(self, **kwargs: Any) -> TilingRule:
        def setting(name: str) -> Any:
            value = kwargs.get(name)
            return getattr(self, name) if value is None else value

        return TilingRule(
            tile_size=self.tile_size,  # type: ignore[attr-defined]
            num_patches_per_side=1,  # tokens are not asked for
            image_aspect_ratio=setting("image_aspect_ratio"),
            grid_pinpoints=tuple((int(w), int(h)) for w, h in setting("image_grid_pinpoints") or ()),
        )


def _check_one_image_each(images: Any) -> None:
    """TRL shuffles `image_sizes` by sample, so with several images in one the sizes would go to other images."""
    groups = [group for group in images if isinstance(group, Sequence)] if isinstance(images, Sequence) else []
    longest = max((len(group) for group in groups), default=0)
    if longest > 1:
        raise ValueError(
            f"A prompt has {longest} images, which are cut into tiles. TRL's GRPO and RLOO trainers shuffle prompts "
            "and sizes of images apart, so tiles would be joined by the size of another image. Give one image per "
            "prompt, or set `processor.image_processor.image_aspect_ratio = 'pad'`."
        )


__all__ = ["TileCountsMixin"]
