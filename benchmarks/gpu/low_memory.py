"""Train 7B on a card of 10 GB: stage 1 in NF4, and QLoRA at 2,048 packed tokens, under a real cap.

    python -m benchmarks.gpu.low_memory [--dry]

The cap is set with `set_per_process_memory_fraction` before the model is made; what asks for more fails.
"""

import sys
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.gpu.measuring import device_seconds, figure, forget_peak, main, median, memory_cap, peak_gigabytes
from benchmarks.gpu.shapes import Sample, Shapes, fewer_layers, make_ours, num_tokens, packed_batch, stage_samples
from benchmarks.harness.results import Comparison
from transformers_llava.modeling.packs.varlen_attention import VARLEN
from transformers_llava.training.model.quantization import quantize_language_model
from transformers_llava.training.recipe.configs import ComponentConfig


CAP = 10.0  # GB, and the target
RANK = 64


def measure(shapes: Shapes, device: str) -> list[Comparison]:
    one = stage_samples(shapes, 1)[0]
    text = 274 // shapes.text_divisor
    instruction = Sample(max(4, text), max(2, text // 3), True)
    pack = max(1, round(2048 / num_tokens(shapes, [instruction]))) if device != "cpu" else 2
    with memory_cap(device, CAP):
        lines = [_stage_1(shapes, device, [one] * count) for count in (1, 4)]
        lines.append(_qlora(shapes, device, [instruction] * pack))
    return lines


def _stage_1(shapes: Shapes, device: str, samples: list[Sample]) -> Comparison:
    forget_peak(device)
    model = _quantized(shapes, device)
    model.model.multi_modal_projector.float().requires_grad_(True)
    return _measure(f"stage 1 in NF4, micro-batch {len(samples)}", model, shapes, device, samples)


def _qlora(shapes: Shapes, device: str, samples: list[Sample]) -> Comparison:
    from peft import LoraConfig, inject_adapter_in_model

    forget_peak(device)
    model = _quantized(shapes, device)
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=r".*language_model\.layers.*_proj")
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        if "lora_" in name or "multi_modal_projector" in name:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
    name = f"stage 2, QLoRA of rank {RANK}, one pack of {num_tokens(shapes, samples):,} tokens"
    return _measure(name, model, shapes, device, samples)


def _measure(name: str, model: Any, shapes: Shapes, device: str, samples: list[Sample]) -> Comparison:
    model.train()
    model.activation_checkpointing_enable({"use_reentrant": False})
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    batch = packed_batch(shapes, samples, device)
    losses = []

    def step() -> None:
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = model(**batch, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())

    seconds = device_seconds(step, device, shapes.repeats)
    first, last = float(losses[0]), float(losses[-1])
    assert last < first, f"it does not learn: {first} to {last}"
    peak = peak_gigabytes(device)
    return figure(
        name,
        peak,
        "GB",
        f"peak memory under a cap of {CAP:g} GB, checkpointed, AdamW in fp32",
        checked=f"it learns: loss {first:.3f} to {last:.3f} in {len(losses)} steps",
        floor=None,
        floor_is=f"target: less than {CAP:g} GB",
        repeats=len(seconds),
        notes={
            "tokens_per_second": round(num_tokens(shapes, samples) / median(seconds), 1),
            "is_under_the_cap": peak < CAP,
        },
    )


def _quantized(shapes: Shapes, device: str) -> Any:
    """Layer by layer, as a loader does: the whole in bf16 would not fit under the cap."""
    model = make_ours(fewer_layers(shapes, 1), device, VARLEN)
    model.requires_grad_(False)
    text = model.config.text_config
    text.num_hidden_layers = shapes.layers
    layers = model.model.language_model.layers
    config = ComponentConfig("lora", quantization="nf4")
    layer_class = type(layers[0])
    while len(layers) < shapes.layers:
        with torch.device(device):
            layers.append(layer_class(text, len(layers)).to(shapes.dtype).requires_grad_(False))
        _quantize(layers[-1], config)
    _quantize(layers[0], config)
    return model


def _quantize(layer: Any, config: ComponentConfig) -> None:
    quantize_language_model(SimpleNamespace(model=SimpleNamespace(language_model=layer)), config, torch.bfloat16)


if __name__ == "__main__":
    sys.exit(main("low_memory", measure))
