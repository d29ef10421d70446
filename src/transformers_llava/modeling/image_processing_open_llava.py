"""Turn images into normalised square tiles with torchvision: the faster twin of the PIL backend, on CPU or GPU.

Tiles, paddings and counts are those of the PIL backend. Interpolation is torchvision's own: single pixel values differ
from the original's, on pure noise by 0.006 in the mean. Where bit-equality matters, load with `backend="pil"`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import SizeDict
from transformers.processing_utils import Unpack
from transformers.utils import TensorType

from .images.square_tiles import OpenLlavaImageProcessorKwargs, SquareTilesMixin


class OpenLlavaImageProcessor(SquareTilesMixin, TorchvisionBackend):
    """See [`OpenLlavaImageProcessorPil`], whose settings and outputs it shares."""

    def __init__(self, **kwargs: Unpack[OpenLlavaImageProcessorKwargs]) -> None:
        super().__init__(**kwargs)

    def _preprocess(
        self,
        images: list[torch.Tensor],
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: Sequence[float],
        image_std: Sequence[float],
        return_tensors: str | TensorType | None,
        **settings: Any,
    ) -> BatchFeature:
        tiles = self._square_tiles(images, image_mean=image_mean, **settings)
        pixel_values = self.rescale_and_normalize(
            torch.stack(tiles), do_rescale, rescale_factor, do_normalize, tuple(image_mean), tuple(image_std)
        )
        data = {"pixel_values": pixel_values.float(), "image_sizes": [tuple(image.shape[-2:]) for image in images]}
        return BatchFeature(data, tensor_type=return_tensors)

    def _resize(self, image: torch.Tensor, size: SizeDict, resample: Any) -> torch.Tensor:
        return self.resize(image, size, resample)

    @staticmethod
    def _filled(image: torch.Tensor, height: int, width: int, color: Sequence[float] | None = None) -> torch.Tensor:
        """A tensor like `image` of another size, black or of one colour."""
        if color is None:
            return image.new_zeros(image.shape[0], height, width)
        return torch.tensor(color, dtype=image.dtype, device=image.device)[:, None, None].repeat(1, height, width)

    @staticmethod
    def _is_unit_range(image: torch.Tensor) -> bool:
        return image.is_floating_point() and bool(image.max() <= 1.0)


__all__ = ["OpenLlavaImageProcessor"]
