"""Train a small Llama-style language model on text alone: captions, and dialogues about captions."""

import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from transformers_llava.demo.base_models.training_loop import mean_of_last, minimize


@dataclass(frozen=True)
class LanguageModelSettings:
    """
    Sizes and training of the demo's language model.

    Args:
        hidden_size (`int`, *optional*, defaults to 128): Width.
        num_layers (`int`, *optional*, defaults to 4): Layers.
        num_heads (`int`, *optional*, defaults to 4): Attention heads.
        initializer_range (`float`, *optional*, defaults to 0.06): Scale of the random weights; larger than in large
            models, because the layers are narrow.
        num_steps (`int`, *optional*, defaults to 250): Optimizer steps.
        batch_size (`int`, *optional*, defaults to 16): Documents per step.
        learning_rate (`float`, *optional*, defaults to 2e-3): Peak of the cosine schedule.
        weight_decay (`float`, *optional*, defaults to 0.01): Of AdamW.
        warmup_ratio (`float`, *optional*, defaults to 0.05): Share of the steps with a rising learning rate.
        max_grad_norm (`float`, *optional*, defaults to 1.0): Where the gradient is clipped.
    """

    hidden_size: int = 128
    num_layers: int = 4
    num_heads: int = 4
    initializer_range: float = 0.06
    num_steps: int = 250
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup_ratio: float = 0.05
    max_grad_norm: float = 1.0


def pretrain_language_model(
    documents: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    seed: int,
    settings: LanguageModelSettings | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """
    Trains a language model from random weights to predict the next token of every document, and saves it.

    Args:
        documents (`Sequence[str]`): Complete texts, BOS and EOS written out where they belong.
        tokenizer (`PreTrainedTokenizerBase`): Saved beside the model.
        folder (`Path`): Where the model goes, as `AutoModelForCausalLM` loads it.
        seed (`int`): Of the weights and of the order of the documents.
        settings ([`LanguageModelSettings`], *optional*): Sizes and training.
        progress (`bool`, *optional*, defaults to `False`): Whether to draw a progress bar.

    Returns:
        `dict`: Settings, first and last loss, seconds.
    """
    started = time.perf_counter()
    settings = settings or LanguageModelSettings()
    torch.manual_seed(seed)
    rng = random.Random(f"language-model-{seed}")
    model = LlamaForCausalLM(_config(settings, tokenizer)).train()
    encoded = [tokenizer(document).input_ids for document in documents]

    def compute_loss() -> torch.Tensor:
        chosen = rng.sample(encoded, min(settings.batch_size, len(encoded)))
        return _next_token_loss(model, chosen, tokenizer.pad_token_id)

    groups = [{"params": list(model.parameters()), "weight_decay": settings.weight_decay}]
    losses = minimize(model, groups, compute_loss, settings, title="language model (text alone)", progress=progress)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {
        "settings": asdict(settings),
        "num_documents": len(documents),
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "first_loss": losses[0],
        "last_loss": mean_of_last(losses),
        "seconds": round(time.perf_counter() - started, 1),
    }


def _config(settings: LanguageModelSettings, tokenizer: PreTrainedTokenizerBase) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=8 * settings.hidden_size // 3 // 32 * 32,
        num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.num_heads,
        num_key_value_heads=settings.num_heads,
        max_position_embeddings=512,
        initializer_range=settings.initializer_range,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _next_token_loss(model: LlamaForCausalLM, sequences: Sequence[list[int]], pad_token_id: int) -> torch.Tensor:
    longest = max(map(len, sequences))
    ids = torch.tensor([sequence + [pad_token_id] * (longest - len(sequence)) for sequence in sequences])
    is_real = torch.tensor([[1] * len(sequence) + [0] * (longest - len(sequence)) for sequence in sequences]).bool()
    # Right padding is behind everything that is predicted, so a causal model needs no attention mask for it.
    hidden_states = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    predicted = is_real[:, 1:]
    return functional.cross_entropy(model.lm_head(hidden_states[predicted]), ids[:, 1:][predicted])


__all__ = ["LanguageModelSettings", "pretrain_language_model"]
