"""What a GPU would meet, shown by dtypes and devices on a machine without one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config
from transformers.utils import logging

from tiny import PINPOINTS, make_config, make_image, make_model, make_processor
from transformers_llava import OpenLlavaForConditionalGeneration
from transformers_llava.modeling.packs import varlen_attention as attention
from transformers_llava.modeling.vision.image_features import scatter_features


Calls = list[dict[str, torch.Tensor]]


@pytest.fixture
def flash_calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Takes what would reach the flash kernel, and answers with SDPA: as on CUDA, without its kernel."""
    calls: Calls = []

    def record(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, borders: torch.Tensor, *_: Any
    ) -> torch.Tensor:
        calls.append({"query": query, "key": key, "value": value})
        assert query.dtype == key.dtype == value.dtype
        return query[0].transpose(0, 1)

    monkeypatch.setattr(attention, "_flash", record)
    monkeypatch.setattr(attention, "_has_flash", lambda device: True)
    return calls


def pack() -> dict[str, Any]:
    lengths = torch.tensor([0, 3, 8], dtype=torch.int32)
    return {
        "input_ids": torch.tensor([[1, 5, 6, 1, 7, 8, 9, 2]]),
        "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4]]),
        "cu_seq_lens_q": lengths,
        "cu_seq_lens_k": lengths,
        "max_length_q": 5,
        "max_length_k": 5,
    }


def test_bf16_autocast_over_fp32_weights_reaches_the_flash_kernel(flash_calls: Calls) -> None:
    model = make_model()
    model.set_attn_implementation({"": "sdpa", "text_config": "varlen", "vision_config": "sdpa"})
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        model(**pack())  # the first pack is preceded by a probe of the decoder
        flash_calls.clear()
        model(**pack())
    assert [call["query"].dtype for call in flash_calls] == [torch.bfloat16] * 2  # one per layer
    flash_calls.clear()
    with torch.no_grad():
        model(**pack())  # nothing says that fewer bits would do
        assert flash_calls == []
        model.to(torch.bfloat16)(**pack())
    assert len(flash_calls) == 2


def test_attention_dropout_is_applied_although_the_flash_kernel_has_none(
    flash_calls: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    logging.warning_once.cache_clear()
    ones = torch.ones(1, 2, 8, 4, dtype=torch.bfloat16)
    borders = torch.tensor([0, 3, 8], dtype=torch.int32)

    def attend(dropout: float) -> torch.Tensor:
        torch.manual_seed(0)
        given = {"cu_seq_lens_q": borders, "max_length_q": 5, "dropout": dropout}
        return attention.varlen_attention(torch.nn.Module(), ones, ones, ones, None, **given)[0]

    assert attend(0.0).float().std() == 0
    assert len(flash_calls) == 1
    assert attend(0.5).float().std() > 0
    assert len(flash_calls) == 1
    assert "attention dropout" in caplog.text


def test_features_are_scattered_where_the_embeddings_are() -> None:
    """The ids of a model split over devices may lie on another one; `meta` stands in for it."""
    is_image = torch.tensor([[False, True, True]])
    scattered = scatter_features(torch.empty(1, 3, 4, device="meta"), is_image, torch.empty(2, 4, device="meta"))
    assert scattered.shape == (1, 3, 4)


@pytest.mark.parametrize("offloaded", ["model.image_newline", "model"])
def test_a_newline_that_a_device_map_puts_on_disk_is_read(tmp_path: Path, offloaded: str) -> None:
    tiling = {"image_aspect_ratio": "anyres", "image_grid_pinpoints": PINPOINTS, "patch_merge_type": "spatial_unpad"}
    config = make_config(**tiling)
    model = make_model(config)
    model.save_pretrained(tmp_path / "model")
    inputs = make_processor(config)(images=make_image(28, 60), text="<image>Hi", return_tensors="pt")
    parts = ("vision_tower", "multi_modal_projector", "language_model")
    device_map = {"lm_head": "cpu", offloaded: "disk"}
    if offloaded != "model":
        device_map |= {f"model.{part}": "cpu" for part in parts}
    loaded = OpenLlavaForConditionalGeneration.from_pretrained(
        tmp_path / "model", device_map=device_map, offload_folder=str(tmp_path / "offload")
    )
    with torch.no_grad():
        assert torch.allclose(loaded(**inputs).logits, model(**inputs).logits, atol=1e-6)
    answers = [m.generate(**inputs, max_new_tokens=4, do_sample=False).tolist() for m in (loaded, model)]
    assert answers[0] == answers[1]


def test_dynamic_quantization_leaves_a_projector_without_parameters() -> None:
    model = make_model()
    inputs = make_processor()(images=make_image(), text="<image>Hi", return_tensors="pt")
    quantized = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear})
    assert not list(quantized.model.multi_modal_projector.parameters())
    with torch.no_grad():
        logits, expected = quantized(**inputs).logits, model(**inputs).logits
    assert torch.nn.functional.cosine_similarity(logits.flatten(), expected.flatten(), dim=0) > 0.95


def test_decoders_with_attention_dropout_train_packed(flash_calls: Calls) -> None:
    sizes = {"vocab_size": 260, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}
    model = make_model(make_config(text_config=GPT2Config(**sizes, attn_pdrop=0.5))).train().to(torch.bfloat16)
    model.set_attn_implementation({"": "sdpa", "text_config": "varlen", "vision_config": "sdpa"})
    inputs = pack()
    model(**inputs)  # with a probe of the decoder, which runs without dropout
    flash_calls.clear()
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert flash_calls == []
