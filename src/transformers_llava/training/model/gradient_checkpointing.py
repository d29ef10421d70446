"""Choose how many layers of the language model compute their activations twice."""

from torch import nn


def limit_checkpointing(language_model: nn.Module, num_layers: int) -> int:
    """
    Keeps gradient checkpointing on the first `num_layers` layers alone, where it is on everywhere.

    Each layer more frees the memory of a layer's activations and costs one more forward pass of it; the gradients are
    the same. (A frozen tower needs no care: the model runs it without gradients.)

    Returns:
        `int`: layers that are checkpointed now, at most `num_layers`.
    """
    layers = [
        module
        for module in language_model.modules()
        if getattr(module, "gradient_checkpointing", False) and type(module).__name__.endswith("DecoderLayer")
    ]
    for layer in layers[num_layers:]:
        layer.gradient_checkpointing = False  # type: ignore[assignment]
    return len(layers[:num_layers])


__all__ = ["limit_checkpointing"]
