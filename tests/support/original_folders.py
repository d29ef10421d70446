"""Write small checkpoints in the original's layout by hand, and compute their logits independently.

The reference puts tower, projector and language model together from transformers' classes and plain matrix products;
it shares no code with the package.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, CLIPVisionConfig, CLIPVisionModel

from tiny import make_tokenizer


TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 260,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
    "max_position_embeddings": 256,
}
EXTRA = {
    "gemma": {"head_dim": 8},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 24,
    },
    "mpt": {},
}
CLASSES = {
    "llama": "LlavaLlamaForCausalLM",
    "mistral": "LlavaMistralForCausalLM",
    "mixtral": "LlavaMixtralForCausalLM",
    "qwen2": "LlavaQwenForCausalLM",
    "qwen2_moe": "LlavaQwenMoeForCausalLM",
    "gemma": "LlavaGemmaForCausalLM",
    "mpt": "LlavaMptForCausalLM",
}
MODEL_TYPES = {"qwen2": "llava_qwen", "qwen2_moe": "llava_qwen_moe"}
TILE, PATCH, VISION = 28, 14, 24


@dataclass
class OriginalFolder:
    """A checkpoint on disk and its parts in memory."""

    folder: Path
    text: nn.Module
    tower: CLIPVisionModel
    projector: list[tuple[torch.Tensor, torch.Tensor]]
    layer: int = -2

    @torch.no_grad()
    def logits(self, ids: list[int], pixel_values: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of one prompt; -200 stands for the image, of which only one flat tile is supported."""
        embed = self.text.get_input_embeddings()
        if pixel_values is None:
            return self.text(input_ids=torch.tensor([ids])).logits[0]
        features = self.tower(pixel_values, output_hidden_states=True).hidden_states[self.layer][:, 1:]
        for i, (weight, bias) in enumerate(self.projector):
            features = nn.functional.linear(nn.functional.gelu(features) if i else features, weight, bias)
        if self.text.config.model_type == "gemma":  # in 2024 Gemma scaled whatever entered it, and its table did not
            features = features * self.text.config.hidden_size**0.5
        cut = ids.index(-200)
        before, after = torch.tensor(ids[:cut]).long(), torch.tensor(ids[cut + 1 :]).long()
        sequence = torch.cat([embed(before), features[0], embed(after)])
        return self.text(inputs_embeds=sequence[None]).logits[0]


def write_original(
    folder: Path,
    text_type: str = "llama",
    *,
    tower_inside: bool = True,
    tower_beside: bool = True,
    projector: str = "mlp2x_gelu",
    files: str = "safetensors",
    seed: int = 0,
    **config: Any,
) -> OriginalFolder:
    """
    Writes `folder` and, beside it, its tower `tower/`.

    `config` overrides fields of config.json; `None` removes one.
    """
    torch.manual_seed(seed)
    text = _language_model(text_type)
    sizes = {"hidden_size": VISION, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    tower = CLIPVisionModel(CLIPVisionConfig(image_size=TILE, patch_size=PATCH, projection_dim=8, **sizes)).eval()
    _randomize(tower)
    prefix = "transformer" if text_type == "mpt" else "model"
    num_layers = {"linear": 1, "identity": 0}.get(projector) if not projector.startswith("mlp") else int(projector[3])
    weights = [
        (torch.randn(32, VISION if i == 0 else 32) * 0.2, torch.randn(32) * 0.1) for i in range(num_layers or 0)
    ]
    state = original_text_state(text, text_type)
    for i, (weight, bias) in enumerate(weights):
        index = "" if projector == "linear" else f"{2 * i}."
        state[f"{prefix}.mm_projector.{index}weight"], state[f"{prefix}.mm_projector.{index}bias"] = weight, bias
    tower_state = {key.removeprefix("vision_model."): value for key, value in tower.state_dict().items()}
    if tower_inside:
        inside = f"{prefix}.vision_tower.vision_tower.vision_model."
        state |= {inside + key: value for key, value in tower_state.items()}
    if tower_beside:
        (folder.parent / "tower").mkdir(parents=True, exist_ok=True)
        beside = {f"vision_model.{key}": value for key, value in tower_state.items()}
        save_file(beside, folder.parent / "tower" / "model.safetensors", metadata={"format": "pt"})
        tower_config = {**tower.config.to_dict(), "model_type": "clip_vision_model"}
        (folder.parent / "tower" / "config.json").write_text(json.dumps(tower_config))
    folder.mkdir(parents=True, exist_ok=True)
    write_files(state, folder, files)
    write_config(folder, text, text_type, projector, **config)
    make_tokenizer().save_pretrained(folder)
    return OriginalFolder(folder, text, tower, weights)


def original_text_state(text: nn.Module, text_type: str) -> dict[str, torch.Tensor]:
    """The language model's weights under the names of 2024: one tensor per expert."""
    state = {key: value.clone() for key, value in text.state_dict().items()}
    if text_type in ("mixtral", "qwen2_moe"):
        for key in [key for key in state if ".experts." in key]:
            value, base = state.pop(key), key.split(".mlp.experts.")[0]
            old = f"{base}.block_sparse_moe.experts" if text_type == "mixtral" else f"{base}.mlp.experts"
            up, gate, down = ("w3", "w1", "w2") if text_type == "mixtral" else ("up_proj", "gate_proj", "down_proj")
            for i, matrix in enumerate(value):
                if key.endswith("gate_up_proj"):
                    first, second = matrix.chunk(2)
                    state[f"{old}.{i}.{gate}.weight"], state[f"{old}.{i}.{up}.weight"] = first.clone(), second.clone()
                else:
                    state[f"{old}.{i}.{down}.weight"] = matrix.clone()
        if text_type == "mixtral":
            for key in [key for key in state if ".mlp.gate." in key]:
                state[key.replace(".mlp.gate.", ".block_sparse_moe.gate.")] = state.pop(key)
    if text.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    return state


def write_config(folder: Path, text: nn.Module, text_type: str, projector: str, **config: Any) -> None:
    fields = {
        key: value for key, value in text.config.to_dict().items() if key not in ("rope_parameters", "layer_types")
    }
    fields |= {
        "architectures": [CLASSES[text_type]],
        "model_type": MODEL_TYPES.get(text_type, f"llava_{text_type}"),
        "mm_vision_tower": "tower",
        "mm_projector_type": projector,
        "mm_hidden_size": VISION,
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_patch_merge_type": "flat",
        "image_aspect_ratio": "square",
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "torch_dtype": "float32",
        "max_length": 4096,
        "use_mm_proj": True,
    }
    if text_type != "mpt":
        fields["rope_theta"] = text.config.rope_parameters["rope_theta"]
    fields |= config
    kept = {key: value for key, value in fields.items() if not (key in config and value is None)}
    (folder / "config.json").write_text(json.dumps(kept, default=str))


def write_files(state: dict[str, torch.Tensor], folder: Path, files: str = "safetensors") -> None:
    state = {key: value.contiguous() for key, value in state.items()}
    if files == "safetensors":
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    elif files in ("bin", "old_bin"):
        torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=files == "bin")
    else:
        stem, suffix = ("model", "safetensors") if files == "sharded_safetensors" else ("pytorch_model", "bin")
        keys = sorted(state)
        shards = [keys[: len(keys) // 2], keys[len(keys) // 2 :]]
        weight_map = {}
        for i, shard in enumerate(shards, 1):
            name = f"{stem}-{i:05d}-of-00002.{suffix}"
            part = {key: state[key].clone() for key in shard}
            if suffix == "bin":
                torch.save(part, folder / name)
            else:
                save_file(part, folder / name, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(shard, name)
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def _language_model(text_type: str) -> nn.Module:
    fields = {**TEXT, **EXTRA.get(text_type, {})}
    if text_type == "mpt":
        fields = {
            "d_model": 32,
            "n_heads": 4,
            "n_layers": 2,
            "expansion_ratio": 2,
            "max_seq_len": 256,
            "vocab_size": 260,
        }
    text = AutoModelForCausalLM.from_config(AutoConfig.for_model(text_type, **fields)).eval()
    _randomize(text)
    return text


@torch.no_grad()
def _randomize(module: nn.Module) -> None:
    """Larger weights than the usual start, so that logits depend on every part."""
    for parameter in module.parameters():
        parameter.copy_(torch.randn_like(parameter) * (0.2 if parameter.dim() > 1 else 0.05) + (parameter.dim() == 1))
