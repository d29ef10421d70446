"""Count floating-point operations per example: forward, backward, and what checkpointing repeats."""

from dataclasses import dataclass

from transformers_llava.modeling.modeling_open_llava import OpenLlavaForConditionalGeneration
from transformers_llava.training.estimate.recipe_shapes import DataShape


@dataclass(frozen=True)
class Flops:
    """Of one mean example. `useful` is what the gradient needs; `repeated` is what checkpointing computes again."""

    tower: float
    language_model: float
    head: float
    repeated: float

    @property
    def useful(self) -> float:
        return self.tower + self.language_model + self.head

    @property
    def computed(self) -> float:
        return self.useful + self.repeated


def flops_per_example(
    model: OpenLlavaForConditionalGeneration, modes: dict[str, str], data: DataShape, *, checkpointed: float
) -> Flops:
    """
    Count the matrix products of one example of mean length.

    A product of a weight with a token costs two operations per weight forward, two for the gradient of its input and
    two for its own. The input's gradient is needed wherever something below learns: in stage 1 the language model
    costs two passes and not three. Attention over T tokens costs 2 T^2 hidden per layer (causal: half of the
    square), and twice that backward.

    Args:
        model (`OpenLlavaForConditionalGeneration`): On the meta device.
        modes (`dict`): Component to `frozen`, `full` or `lora`.
        data (`DataShape`): Mean lengths.
        checkpointed (`float`): Share of the language model's layers whose activations are computed again.
    """
    tokens = data.tokens
    text, language_model = model.config.text_config, model.model.language_model
    blocks = sum(p.numel() for name, p in language_model.named_parameters() if "embed" not in name and p.dim() == 2)
    heads_width = text.num_attention_heads * (getattr(text, "head_dim", None) or _head_dim(text))
    attention = 2 * tokens**2 * heads_width * text.num_hidden_layers
    forward = 2 * blocks * tokens + attention
    passes = {"full": 3, "lora": 2, "frozen": 2}[modes["language_model"]]  # below it the projector learns
    learns_below = any(modes[name] != "frozen" for name in ("vision_tower", "multi_modal_projector"))
    if modes["language_model"] == "frozen" and not learns_below:
        passes = 1
    work = 2 * blocks * tokens * passes + attention * (3 if passes > 1 else 1)
    head = 2 * model.lm_head.weight.numel() * data.label_tokens * (3 if modes["language_model"] == "full" else 2)
    projector = sum(p.numel() for p in model.model.multi_modal_projector.parameters() if p.dim() == 2)
    patches = data.image_share * data.tiles * _patches(model)
    work += 2 * projector * patches * (3 if modes["multi_modal_projector"] == "full" else 1)
    return Flops(
        tower=_tower(model, data) * (3 if modes["vision_tower"] != "frozen" else 1),
        language_model=work,
        head=head,
        repeated=forward * checkpointed if passes > 1 else 0.0,
    )


def _tower(model: OpenLlavaForConditionalGeneration, data: DataShape) -> float:
    """Forward: the tower was built without the layers that nothing reads."""
    vision, tower = model.config.vision_config, model.model.vision_tower
    layers = sum(p.numel() for name, p in tower.named_parameters() if ".layers." in name and p.dim() == 2)
    patches = _patches(model)
    attention = 4 * patches**2 * vision.hidden_size * model.config.num_vision_layers
    embedding = 2 * 3 * vision.patch_size**2 * vision.hidden_size * patches
    return data.image_share * data.tiles * (2 * layers * patches + attention + embedding)


def _patches(model: OpenLlavaForConditionalGeneration) -> int:
    vision = model.config.vision_config
    return (vision.image_size // vision.patch_size) ** 2


def _head_dim(text: object) -> int:
    return text.hidden_size // text.num_attention_heads  # type: ignore[attr-defined]


__all__ = ["Flops", "flops_per_example"]
