"""Time the vision tower cut behind the layer that is read, and without a graph where it is frozen.

    python -m benchmarks.vision_tower --json benchmarks/results/cpu.json

CLIP and SigLIP with the depth and the number of patches of the published towers (24 layers and 577 positions, 27 and
729) and a quarter of their width. Exit status 1 if a target is missed.
"""

import sys
from typing import Any

import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, SiglipVisionConfig, SiglipVisionModel

from benchmarks.harness.ceilings import count_flops, matmul_rate
from benchmarks.harness.command import main
from benchmarks.harness.memory import saved_bytes
from benchmarks.harness.models import make_pair
from benchmarks.harness.results import Comparison, compared
from benchmarks.harness.timing import take_turns
from transformers_llava import OpenLlavaConfig
from transformers_llava.modeling.vision.vision_tower import build_vision_tower, encode_tiles


def measure(repeats: int, *, clip_layers: int = 24, siglip_layers: int = 27) -> list[Comparison]:
    """The lines of this question; the depths are arguments so that a test can make them small."""
    sizes = {"hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4, "patch_size": 14}
    clip = CLIPVisionConfig(num_hidden_layers=clip_layers, image_size=336, **sizes)
    siglip = SiglipVisionConfig(num_hidden_layers=siglip_layers, image_size=384, **sizes)
    return [
        _cut("CLIP", clip, CLIPVisionModel, repeats),
        _cut("SigLIP", siglip, SiglipVisionModel, repeats),
        *_frozen(repeats, clip_layers),
    ]


def _cut(kind: str, vision: Any, tower_class: type, repeats: int) -> Comparison:
    torch.manual_seed(0)
    whole = tower_class(vision).eval()
    strategy = "default" if kind == "CLIP" else "full"
    config = OpenLlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(hidden_size=64, num_hidden_layers=1, vocab_size=64),
        vision_feature_layer=-2,
        vision_feature_select_strategy=strategy,
    )
    cut, _ = build_vision_tower(config)
    cut.load_state_dict(whole.state_dict(), strict=False)
    cut.eval()
    pixels = torch.randn(1, 3, vision.image_size, vision.image_size)

    def built_in() -> torch.Tensor:
        # What transformers' LLaVA does: it asks for one hidden state, and runs every layer.
        features = whole(pixels, output_hidden_states=[-2]).hidden_states[-2]
        return features[:, 1:] if kind == "CLIP" else features

    with torch.inference_mode():
        ours = encode_tiles(cut, config, pixels)[0]
        assert torch.equal(ours, built_in())
        timing = take_turns(lambda: encode_tiles(cut, config, pixels)[0], built_in, repeats=repeats)
        flops = {"ours": count_flops(lambda: encode_tiles(cut, config, pixels)[0]), "other": count_flops(built_in)}
    parameters = {
        name: sum(p.numel() for p in tower.parameters()) for name, tower in (("ours", cut), ("other", whole))
    }
    return compared(
        timing,
        name=f"{kind} cut at layer -2",
        unit="s",
        ours_is=f"one image, {vision.num_hidden_layers - 1} of {vision.num_hidden_layers} layers",
        other_is="built-in: every layer runs, one hidden state is taken",
        checked="features equal bit for bit",
        at_least=1.0,
        floor=round(flops["ours"] / matmul_rate(), 4),
        floor_is="counted operations of ours at the rate of a large matrix product on this machine",
        notes={
            "operations_saved": round(flops["other"] / flops["ours"], 4),
            "parameters_saved": parameters["other"] - parameters["ours"],
        },
    )


def _frozen(repeats: int, clip_layers: int) -> list[Comparison]:
    """A step of stage 1 with gradient checkpointing: the projector learns, tower and language model are frozen."""
    ours, builtin = make_pair(
        vision_hidden=256, vision_layers=clip_layers, hidden=256, layers=2, vocabulary=512, image_token=500
    )
    ids = torch.randint(3, 499, (1, 24))
    input_ids = torch.cat([torch.full((1, 576), 500), ids], dim=1)
    labels = torch.cat([torch.full((1, 576), -100), ids], dim=1)
    batch = {"input_ids": input_ids, "labels": labels, "pixel_values": torch.randn(1, 3, 336, 336)}
    for model in (ours, builtin):
        model.train().requires_grad_(False)
        model.model.multi_modal_projector.requires_grad_(True)
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()  # as TRL and peft do where weights are frozen

    def loss(model: Any) -> torch.Tensor:
        return model(**batch, use_cache=False).loss

    def gradients(model: Any) -> list[torch.Tensor]:
        model.zero_grad()
        loss(model).backward()
        return [parameter.grad for parameter in model.model.multi_modal_projector.parameters()]

    pairs = list(zip(gradients(ours), gradients(builtin), strict=True))
    scale = max(float(theirs.abs().max()) for _, theirs in pairs)
    difference = max(float((mine - theirs).abs().max()) for mine, theirs in pairs) / scale
    assert difference < 1e-4, difference
    checked = f"gradients of the projector differ by at most {difference:.1g} of the largest"
    ours_is = "stage 1 step with gradient checkpointing, the frozen tower without a graph"
    other_is = "built-in, where checkpointing makes the frozen tower compute twice, and its gradients"
    kept = {
        name: saved_bytes(lambda model=model: loss(model)) / 1e6
        for name, model in (("ours", ours), ("other", builtin))
    }
    return [
        compared(
            take_turns(lambda: gradients(ours), lambda: gradients(builtin), repeats=repeats),
            name="frozen tower, step",
            unit="s",
            ours_is=ours_is,
            other_is=other_is,
            checked=checked,
            at_least=1.0,
            floor=round(count_flops(lambda: gradients(ours)) / matmul_rate(), 4),
            floor_is="counted operations of ours at the rate of a large matrix product on this machine",
        ),
        Comparison(
            name="frozen tower, memory",
            ours=round(kept["ours"], 1),
            other=round(kept["other"], 1),
            ratio=round(kept["other"] / kept["ours"], 3),
            unit="MB",
            ours_is=f"kept for the backward pass of a {ours_is}",
            other_is=other_is,
            checked=checked,
            at_least=1.0,
        ),
    ]


if __name__ == "__main__":
    sys.exit(main("vision_tower", measure, repeats=9, clock="CPU time"))
