"""Picture features to their places among the embeddings of a sequence."""

from collections.abc import Callable

import torch
from transformers.utils import logging

from .configuration_open_llava import OpenLlavaConfig


logger = logging.get_logger(__name__)


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


def _has_row(config: OpenLlavaConfig) -> bool:
    return config.image_token_id < config.text_config.vocab_size


def scatter_features(
    inputs_embeds: torch.Tensor, is_image: torch.Tensor, image_features: torch.Tensor
) -> torch.Tensor:
    """
    Puts the n-th feature at the n-th image position.

    With `is_image = [0, 1, 1, 0, 1]` the running count gives rows `[-, 0, 1, -, 2]`; reading rows and choosing is
    faster than `masked_scatter` and needs no answer from the device.

    Args:
        inputs_embeds (`torch.Tensor` of shape `(batch_size, sequence_length, hidden_size)`)
        is_image (`torch.Tensor` of shape `(batch_size, sequence_length)`): Where a picture's feature belongs.
        image_features (`torch.Tensor` of shape `(is_image.sum(), hidden_size)`): In the order of their positions.
    """
    is_image = is_image.to(inputs_embeds.device)  # with a device map the ids may lie elsewhere
    row = (is_image.flatten().cumsum(0) - 1).clamp(0, image_features.shape[0] - 1).view_as(is_image)
    return torch.where(is_image[..., None], image_features[row], inputs_embeds)


def check_counts(is_image: torch.Tensor, num_features: int, *, may_wait: bool) -> None:
    """
    Positions and features must be equally many.

    Args:
        is_image (`torch.Tensor` of shape `(batch_size, sequence_length)`)
        num_features (`int`): Features that the pictures gave.
        may_wait (`bool`): Whether the host may wait for the device to count. If not, as in training, the device itself
            raises, later and with fewer words.
    """
    if torch.compiler.is_compiling() or (not may_wait and is_image.device.type != "cpu"):
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
        check_counts(is_image, 0, may_wait=False)
    elif not torch.compiler.is_compiling() and bool(is_image.any()):
        logger.warning_once(
            "`input_ids` has image positions, but no images were given: they are read as text, and the answer is "
            "about no image. Pass `pixel_values`, as the processor returns them. (The assistant of "
            "speculative decoding is never shown images; its proposals are checked by the model that is.)"
        )


def _mismatch(num_positions: int, num_features: int) -> str:
    # The first sentence is that of the built-in classes, which TRL looks for.
    return (
        "Image features and image tokens do not match: "
        f"`input_ids` has {num_positions} image positions, but the pictures give {num_features} features. "
        + (
            "No pictures were given: pass `pixel_values`."
            if num_features == 0
            else "Either the sequence was truncated inside a picture, or processor and model differ in image "
            "size, tiling or feature strategy: save and load them together, and do not truncate pictures."
        )
    )


__all__ = ["check_counts", "check_no_image", "embed_ids", "image_positions", "scatter_features"]
