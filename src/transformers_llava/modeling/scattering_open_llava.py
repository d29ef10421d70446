"""Picture features to their places among the embeddings of a sequence."""

import torch


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
    if num_positions == num_features:
        return
    raise ValueError(
        f"`input_ids` has {num_positions} image positions, but the pictures give {num_features} features. "
        + (
            "No pictures were given: pass `pixel_values`."
            if num_features == 0
            else "Either the sequence was truncated inside a picture, or processor and model differ in image "
            "size, tiling or feature strategy: save and load them together, and do not truncate pictures."
        )
    )


__all__ = ["check_counts", "scatter_features"]
