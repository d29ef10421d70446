"""A decoder is asked whether it keeps the documents of a pack apart; the answer is measured and not looked up."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, LlamaConfig, PreTrainedModel
from transformers.models.llama import modeling_llama

from transformers_llava.modeling.packs.document_probe import PackProbe, check_documents_apart, probe_pack


SIZES = {
    "vocab_size": 260,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
DECODERS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {"head_dim": 16},
    "gemma3_text": {"head_dim": 16, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 3},
    "qwen3_moe": {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "gpt_oss": {
        "head_dim": 16,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 4,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    },
    "minimax": {"head_dim": 16, "num_local_experts": 2, "layer_types": ["linear_attention", "full_attention"]},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64},
}


def make_decoder(name: str, attention: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **{**SIZES, **DECODERS[name]})
    return AutoModel.from_config(config, attn_implementation=attention).to(dtype)


def check(decoder: PreTrainedModel) -> None:
    check_documents_apart(decoder, decoder.get_input_embeddings().weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("attention", ["sdpa", "eager", "varlen"])
@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3_text", "qwen3_moe"])
def test_decoders_that_keep_documents_apart_pass(name: str, attention: str, dtype: torch.dtype) -> None:
    check(make_decoder(name, attention, dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "attention"),
    [("gpt_oss", "eager"), ("minimax", "sdpa"), ("minimax", "varlen"), ("opt", "sdpa"), ("lfm2", "varlen")],
)
def test_decoders_that_mix_documents_are_refused(name: str, attention: str, dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=rf"type '{name}' does not keep .* Train it with `packed: false`"):
        check(make_decoder(name, attention, dtype))


def test_a_soft_cap_is_not_sent_to_an_attention_that_may_leak_without_a_word() -> None:
    with pytest.raises(ValueError, match="Train it with `packed: false`; or use attn_implementation='eager'"):
        check(make_decoder("gpt_oss", "varlen"))


def test_one_leaking_layer_of_a_decoder_that_nobody_has_heard_of_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Leaking(modeling_llama.LlamaModel):
        def forward(self, **kwargs: Any) -> Any:
            outputs = super().forward(**kwargs)
            states = outputs.last_hidden_state
            outputs.last_hidden_state = states + 1e-2 * states.roll(1, dims=1)  # a short convolution
            return outputs

    decoder = Leaking(LlamaConfig(**SIZES, attn_implementation="varlen"))
    assert 1e-3 < probe_pack(decoder, decoder.get_input_embeddings().weight).moved < 1e-1
    with pytest.raises(ValueError, match="does not keep the documents"):
        check(decoder)


def test_rounding_is_told_from_a_leak() -> None:
    assert PackProbe(moved=0.02, noise=0.01, rounding=1e-3).is_apart  # experts of a mixture: both sides move it
    assert not PackProbe(moved=0.02, noise=0.0, rounding=1e-3).is_apart
    assert not PackProbe(moved=float("nan"), noise=0.0, rounding=1e-3).is_apart


def test_a_probe_leaves_no_trace_and_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = make_decoder("llama", "sdpa").train()
    decoder.layers[0].eval()
    calls: list[int] = []
    decoder.register_forward_hook(lambda *_: calls.append(1))
    state = torch.get_rng_state()
    check(decoder)
    check(decoder)
    assert len(calls) == 2
    assert torch.equal(state, torch.get_rng_state())
    assert decoder.training
    assert decoder.layers[1].training
    assert not decoder.layers[0].training
    decoder.set_attn_implementation("eager")
    check(decoder)
    assert len(calls) == 4  # another implementation, another answer
