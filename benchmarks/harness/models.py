"""Make a pair of models with the same weights: ours, and the built-in `LlavaForConditionalGeneration`."""

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from transformers_llava import OpenLlavaConfig, OpenLlavaForConditionalGeneration


def make_pair(
    *,
    vision_hidden: int,
    vision_layers: int,
    hidden: int,
    layers: int,
    vocabulary: int,
    image_token: int,
    image_size: int = 336,
    attention: str = "sdpa",
    seed: int = 0,
) -> tuple[OpenLlavaForConditionalGeneration, LlavaForConditionalGeneration]:
    """
    Both models in fp32, with random weights; CLIP of patches of 14 pixels and a Llama, features of layer -2.

    Args:
        vision_hidden, vision_layers (`int`): Of CLIP; heads are 64 wide.
        hidden, layers (`int`): Of Llama; heads are 64 wide, the MLP is 2.6875 times as wide, as in Llama 7B.
        vocabulary, image_token (`int`): Rows of the embedding table; id of `<image>`.
        attention (`str`, *optional*, defaults to `"sdpa"`): Of ours; the built-in model has `sdpa`.
    """
    vision = CLIPVisionConfig(
        hidden_size=vision_hidden,
        intermediate_size=4 * vision_hidden,
        num_hidden_layers=vision_layers,
        num_attention_heads=max(1, vision_hidden // 64),
        image_size=image_size,
        patch_size=14,
    )
    text = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=43 * hidden // 16,
        num_hidden_layers=layers,
        num_attention_heads=max(1, hidden // 64),
        num_key_value_heads=max(1, hidden // 64),
        max_position_embeddings=8192,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    torch.manual_seed(seed)
    builtin = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=image_token,
            image_seq_length=(image_size // 14) ** 2,
            attn_implementation="sdpa",
        )
    )
    _spread_weights(builtin)
    config = OpenLlavaConfig(
        vision_config=CLIPVisionConfig(**vision.to_dict()),
        text_config=LlamaConfig(**text.to_dict()),
        image_token_index=image_token,
    )
    ours = OpenLlavaForConditionalGeneration._from_config(config, attn_implementation=attention)
    load_same_weights(ours, builtin)
    return ours.eval(), builtin.eval()


def load_same_weights(ours: torch.nn.Module, builtin: torch.nn.Module) -> None:
    """Every tensor of ours from the built-in model; what only that one has is the tower behind the feature layer."""
    missing, unexpected = ours.load_state_dict(builtin.state_dict(), strict=False)
    assert not missing, missing
    assert all("vision_tower" in name for name in unexpected), unexpected


def question_inputs(
    questions: list[list[int]], pixel_values: torch.Tensor | None, *, pad: int = 0
) -> dict[str, torch.Tensor]:
    """Ids to a left-padded batch with its mask; images as they are."""
    longest = max(len(ids) for ids in questions)
    input_ids = torch.tensor([[pad] * (longest - len(ids)) + ids for ids in questions])
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in questions])
    batch = {"input_ids": input_ids, "attention_mask": mask}
    return batch if pixel_values is None else batch | {"pixel_values": pixel_values}


@torch.no_grad()
def _spread_weights(model: torch.nn.Module) -> None:
    """Three times the usual random scale, so that answers depend on the image and the most likely token is clear."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.mul_(3.0)


__all__ = ["load_same_weights", "make_pair", "question_inputs"]
