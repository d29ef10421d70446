"""Packed documents give what they give alone: logits, loss and gradients; and the test would see a leak."""

from itertools import chain, pairwise

import pytest
import torch
from transformers import MistralConfig, MptConfig, OPTConfig

from tiny import make_config, make_model
from transformers_llava import OpenLlavaForConditionalGeneration


IMAGE = 260
DOCUMENTS = [[1, *[IMAGE] * 4, 10, 11, 2], [1, 20, 21, 2], [1, 30, *[IMAGE] * 4, 31, 32, 33, 2]]


def make_pack() -> dict:
    lengths = [len(document) for document in DOCUMENTS]
    borders = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32)
    labels = torch.tensor([list(chain(*DOCUMENTS))])
    labels[0, borders[:-1].long()] = -100  # a document's first token is not predicted from the last of another
    return {
        "input_ids": torch.tensor([list(chain(*DOCUMENTS))]),
        "labels": labels,
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "cu_seq_lens_q": borders,
        "cu_seq_lens_k": borders,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
        "pixel_values": make_pixels(),
    }


def make_pixels() -> torch.Tensor:
    return torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def make_double_model(attention: str, **kwargs: object) -> OpenLlavaForConditionalGeneration:
    model = make_model(**kwargs).double()
    model.set_attn_implementation({"text_config": attention, "vision_config": "sdpa", "": "sdpa"})
    return model


def alone(model: OpenLlavaForConditionalGeneration) -> torch.Tensor:
    remaining = iter(make_pixels())
    logits = []
    for document in DOCUMENTS:
        pixels = next(remaining)[None] if IMAGE in document else None
        logits.append(model(input_ids=torch.tensor([document]), pixel_values=pixels).logits)
    return torch.cat(logits, dim=1)


@pytest.mark.parametrize("attention", ["varlen", "sdpa", "eager"])
def test_packed_documents_do_not_attend_to_each_other(attention: str) -> None:
    model, pack = make_double_model(attention), make_pack()
    tolerance = 1e-5 if attention == "eager" else 1e-12  # eager attention rounds its weights to float32
    with torch.no_grad():
        assert torch.allclose(model(**pack).logits, alone(model), atol=tolerance)


def test_a_sliding_window_ends_inside_a_document() -> None:
    sizes = {"vocab_size": 260, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    text_config = MistralConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, sliding_window=3)
    outputs = {}
    for attention in ("varlen", "eager"):
        model = make_double_model(attention, config=make_config(text_config=text_config))
        with torch.no_grad():
            outputs[attention] = model(**make_pack()).logits
            assert torch.allclose(outputs[attention], alone(model), atol=1e-5)
    assert torch.allclose(outputs["varlen"], outputs["eager"], atol=1e-5)


def test_gradients_of_a_pack_are_those_of_its_documents() -> None:
    gradients = {}
    for attention in ("varlen", "sdpa"):
        model = make_double_model(attention).train()
        model(**make_pack()).loss.backward()
        gradients[attention] = {name: parameter.grad for name, parameter in model.named_parameters()}
    model = make_double_model("sdpa").train()
    pack = make_pack()
    borders = pack["cu_seq_lens_q"].tolist()
    remaining = iter(make_pixels())
    total = int((pack["labels"] != -100).sum()) - 8  # image positions are never supervised
    for start, end in pairwise(borders):
        ids = pack["input_ids"][:, start:end]
        pixels = next(remaining)[None] if (ids == IMAGE).any() else None
        labels = pack["labels"][:, start:end]
        model(input_ids=ids, pixel_values=pixels, labels=labels, num_items_in_batch=total).loss.backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(gradients["varlen"][name], parameter.grad, atol=1e-12), name
        assert torch.allclose(gradients["sdpa"][name], parameter.grad, atol=1e-12), name


@pytest.mark.parametrize("missing", ["cu_seq_lens_q", "position_ids"])
def test_the_comparison_sees_leakage(missing: str) -> None:
    """Negative control: without borders and restarting positions documents do see each other, and it shows."""
    model, pack = make_double_model("sdpa"), make_pack()
    kept = {key: value for key, value in pack.items() if key != "position_ids" and not key.startswith(("cu_", "max_"))}
    if missing == "cu_seq_lens_q":  # restarting positions alone isolate with sdpa only if there is no cache
        kept["position_ids"] = pack["position_ids"]
    with torch.no_grad():
        leaked = (model(**kept).logits - alone(model)).abs().max()
    assert leaked > 1e-2


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"attention_mask": torch.ones(1, 22, dtype=torch.long)}, "an `attention_mask`"),
        ({"position_ids": None}, "no `position_ids`"),
    ],
)
def test_what_would_break_the_isolation_is_refused(extra: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_double_model("varlen")(**{**make_pack(), **extra})


@pytest.mark.parametrize("decoder", ["mpt", "opt"])
def test_decoders_that_would_mix_documents_are_refused(decoder: str) -> None:
    text_config = {
        "mpt": MptConfig(vocab_size=260, d_model=64, n_heads=4, n_layers=2),
        "opt": OPTConfig(vocab_size=260, hidden_size=64, ffn_dim=96, num_attention_heads=4, num_hidden_layers=2),
    }[decoder]
    model = make_model(make_config(text_config=text_config)).double()
    with pytest.raises(ValueError, match=f"type '{decoder}' does not keep the documents of a pack apart"):
        model(**make_pack())


def test_no_dense_mask_is_built_for_varlen(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import masking_utils

    built: list[tuple] = []
    monkeypatch.setattr(masking_utils, "sdpa_mask", lambda *args, **kwargs: built.append(args))
    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", lambda *args, **kwargs: built.append(args))
    with torch.no_grad():
        make_double_model("varlen")(**make_pack())
    assert built == []


def test_generation_with_varlen_is_generation_with_sdpa() -> None:
    answers = {}
    for attention in ("varlen", "sdpa"):
        model = make_model()
        model.set_attn_implementation({"text_config": attention, "vision_config": "sdpa", "": "sdpa"})
        ids = torch.tensor([[3, 3, 1, 20, 21], [1, 30, 31, 32, 33]])
        mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
        answers[attention] = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=6, do_sample=False)
    assert torch.equal(answers["varlen"], answers["sdpa"])


def test_varlen_is_chosen_by_name_when_loading(tmp_path: object) -> None:
    make_model().save_pretrained(tmp_path)
    model = OpenLlavaForConditionalGeneration.from_pretrained(tmp_path, attn_implementation="varlen")
    assert model.model.language_model.config._attn_implementation == "varlen"
    with torch.no_grad():
        pack = make_pack()
        pack["pixel_values"] = pack["pixel_values"].float()
        assert model(**pack).logits.shape == (1, 22, 260)
