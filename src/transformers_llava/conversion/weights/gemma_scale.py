"""Picture features of an original Gemma to the scale that today's Gemma expects them in.

Until transformers 4.5x Gemma multiplied everything that entered it by sqrt(hidden_size), pictures included;
LLaVA-NeXT's Gemma was trained so. Today the embedding table multiplies its own output, and features from elsewhere
enter as they are. The factor therefore goes into the projector's last layer and the newline vector, once, when they
are read.
"""

import math

from transformers_llava.modeling.configuration_open_llava import OpenLlavaConfig
from transformers_llava.modeling.vision.projector import projector_depth


def scaled_weights(config: OpenLlavaConfig) -> tuple[frozenset[str], float]:
    """
    Names of the weights of an original checkpoint that are multiplied, and the factor; no names if it needs none.

    Raises:
        ValueError: For projectors without a last linear layer, into which no factor can go.
    """
    if config.text_config.model_type != "gemma":
        return frozenset(), 1.0
    num_layers, num_blocks = projector_depth(config.projector_type)
    if num_blocks or not num_layers:
        raise ValueError(
            f"projector_type={config.projector_type!r} with a Gemma: the factor that the original's Gemma puts on "
            "picture features has no place in this projector, so the features would be too small. It is refused."
        )
    last = f"model.multi_modal_projector.linear_{num_layers}"
    names = frozenset({f"{last}.weight", f"{last}.bias", "model.image_newline"})
    return names, math.sqrt(config.text_config.hidden_size)


__all__ = ["scaled_weights"]
