"""Time answers on a GPU: first token, decoding against the bandwidth floor for batches of 1 to 64, compiled.

python -m benchmarks.gpu.inference [--dry]
"""

import sys
from typing import Any

import torch

from benchmarks.gpu.measuring import copy_rate, device_seconds, main, matmul_rate, median
from benchmarks.gpu.shapes import Sample, Shapes, make_builtin, make_ours, padded_batch
from benchmarks.harness.models import load_same_weights
from benchmarks.harness.processors import make_image, make_processor
from benchmarks.harness.results import Comparison
from transformers_llava.generation.answering import ImageAnswerer


BATCHES = (1, 8, 64)
NUM_NEW_TOKENS = 64
BUILTIN = "built-in LlavaForConditionalGeneration, the same weights and tensors"


def measure(shapes: Shapes, device: str) -> list[Comparison]:
    builtin = make_builtin(shapes, device).eval()
    ours = make_ours(shapes, device).eval()
    load_same_weights(ours, builtin)
    for model in (ours, builtin):
        model.generation_config.eos_token_id = None
        model.generation_config.pad_token_id = 0
    batches, new_tokens = (BATCHES, NUM_NEW_TOKENS) if device != "cpu" else ((1, 2), 4)
    lines = []
    with torch.inference_mode():
        for size in batches:
            inputs = _prompts(shapes, size, device)
            lines.append(_first_token(shapes, device, ours, builtin, inputs))
            lines.append(_decode(shapes, device, ours, builtin, inputs, new_tokens))
        lines.append(_static(shapes, device, ours, _prompts(shapes, 1, device), new_tokens))
        lines.append(_one_image(shapes, device, ours, builtin, new_tokens))
    return lines


def _prompts(shapes: Shapes, size: int, device: str) -> dict[str, torch.Tensor]:
    """Prompts of equal length: an image and 50 tokens of text."""
    batch = padded_batch(shapes, [Sample(max(4, 50 // shapes.text_divisor), 1, True)] * size, device)
    return {name: batch[name] for name in ("input_ids", "attention_mask", "pixel_values")}


def _first_token(shapes: Shapes, device: str, ours: Any, builtin: Any, inputs: dict[str, torch.Tensor]) -> Comparison:
    def run(model: Any) -> torch.Tensor:
        return model(**inputs, use_cache=True, logits_to_keep=1).logits

    mine, theirs = run(ours).float(), run(builtin).float()
    difference = float((mine - theirs).norm() / theirs.norm())
    assert difference < 0.05, difference
    seconds = {
        model: device_seconds(lambda model=model: run(model), device, shapes.repeats) for model in (ours, builtin)
    }
    size = len(inputs["input_ids"])
    block = 4 * shapes.hidden**2 + 3 * shapes.hidden * shapes.intermediate
    flops = size * inputs["input_ids"].shape[1] * 2 * block * shapes.layers
    return Comparison(
        name=f"first token, batch of {size}",
        ours=_milliseconds(seconds[ours]),
        other=_milliseconds(seconds[builtin]),
        ratio=round(median(seconds[builtin]) / median(seconds[ours]), 3),
        unit="ms",
        ours_is=f"images and prompts of {inputs['input_ids'].shape[1]} positions to the first logits",
        other_is=BUILTIN,
        checked=f"logits differ by {difference:.1g} of their norm",
        floor=float(f"{flops / matmul_rate(shapes, device) * 1e3:.4g}"),
        floor_is="operations of the language model alone at the rate of a large product",
        repeats=shapes.repeats,
    )


def _decode(
    shapes: Shapes, device: str, ours: Any, builtin: Any, inputs: dict[str, torch.Tensor], new_tokens: int
) -> Comparison:
    """Time of `new_tokens` + 1 less that of 1, so that the prompt is not counted."""
    size = len(inputs["input_ids"])

    def seconds(model: Any) -> float:
        long, short = (
            median(
                device_seconds(
                    lambda count=count: model.generate(**inputs, max_new_tokens=count, do_sample=False),
                    device,
                    min(3, shapes.repeats),
                    warmups=1,
                )
            )
            for count in (new_tokens + 1, 1)
        )
        return max(long - short, 1e-9)

    equal = _share_of_equal_tokens(ours, builtin, inputs, new_tokens)
    taken = {"ours": seconds(ours), "other": seconds(builtin)}
    rates = {name: size * new_tokens / second for name, second in taken.items()}
    block = 4 * shapes.hidden**2 + 3 * shapes.hidden * shapes.intermediate
    weights = (shapes.layers * block + shapes.hidden * shapes.vocabulary) * shapes.dtype.itemsize
    cache = 2 * size * inputs["input_ids"].shape[1] * shapes.hidden * shapes.layers * shapes.dtype.itemsize
    return Comparison(
        name=f"decode, batch of {size}",
        ours=float(f"{rates['ours']:.4g}"),
        other=float(f"{rates['other']:.4g}"),
        ratio=round(taken["other"] / taken["ours"], 3),
        unit="tokens/s",
        higher_is_better=True,
        ours_is=f"{new_tokens} greedy tokens after the prompt, dynamic cache",
        other_is=BUILTIN,
        checked=f"{equal:.0%} of the tokens equal (bf16: a near tie may fall either way)",
        floor=float(f"{size * copy_rate(device) / (weights + cache):.4g}"),
        floor_is="weights and cache read once a token at the card's copy rate",
        repeats=shapes.repeats,
    )


def _static(shapes: Shapes, device: str, ours: Any, inputs: dict[str, torch.Tensor], new_tokens: int) -> Comparison:
    """On CUDA, `generate` compiles decoding with a static cache and replays it as a CUDA graph."""

    def run(**kwargs: Any) -> torch.Tensor:
        return ours.generate(**inputs, max_new_tokens=new_tokens, do_sample=False, **kwargs)

    equal = float((run() == run(cache_implementation="static")).float().mean())
    static = median(device_seconds(lambda: run(cache_implementation="static"), device, shapes.repeats))
    dynamic = median(device_seconds(run, device, shapes.repeats))
    return Comparison(
        name="static cache, compiled, batch of 1",
        ours=round(new_tokens / static, 2),
        other=round(new_tokens / dynamic, 2),
        ratio=round(dynamic / static, 3),
        unit="tokens/s",
        higher_is_better=True,
        ours_is=f"prompt and {new_tokens} tokens, cache_implementation='static'",
        other_is="our model with the dynamic cache, not compiled",
        checked=f"{equal:.0%} of the tokens equal",
        repeats=shapes.repeats,
    )


def _one_image(shapes: Shapes, device: str, ours: Any, builtin: Any, new_tokens: int) -> Comparison:
    """Four questions about one image, with and without reuse of the prefix."""
    processor, image = make_processor(ours.config), make_image()
    questions = ["What is this?", "Is there a person in it?", "Which colour is most of it?", "How many dogs?"]

    def reuse() -> list[torch.Tensor]:
        return ImageAnswerer(ours, processor, image).generate_many(questions, max_new_tokens=new_tokens)

    def one_by_one() -> list[torch.Tensor]:
        answers = []
        for question in questions:
            content = [{"type": "image", "image": image}, {"type": "text", "text": question}]
            inputs = processor.apply_chat_template(
                [[{"role": "user", "content": content}]],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                processor_kwargs={"add_special_tokens": False},
            )
            names = ("input_ids", "attention_mask", "pixel_values")
            batch = {name: inputs[name].to(device) for name in names}
            batch["pixel_values"] = batch["pixel_values"].to(shapes.dtype)
            ids = builtin.generate(**batch, max_new_tokens=new_tokens, do_sample=False)
            answers.append(ids[0, batch["input_ids"].shape[1] :])
        return answers

    pairs = zip(reuse(), one_by_one(), strict=True)
    equal = sum(float((a == b).float().mean()) for a, b in pairs) / len(questions)
    taken = {
        name: device_seconds(run, device, shapes.repeats) for name, run in (("ours", reuse), ("other", one_by_one))
    }
    return Comparison(
        name="4 questions about one image",
        ours=_milliseconds(taken["ours"]),
        other=_milliseconds(taken["other"]),
        ratio=round(median(taken["other"]) / median(taken["ours"]), 3),
        unit="ms",
        ours_is=f"ImageAnswerer in one batch, {new_tokens} tokens each, from image and text",
        other_is="built-in, one by one",
        checked=f"{equal:.0%} of the tokens equal (bf16: a near tie may fall either way)",
        at_least=2.0,
        repeats=shapes.repeats,
    )


def _share_of_equal_tokens(ours: Any, builtin: Any, inputs: dict[str, torch.Tensor], new_tokens: int) -> float:
    mine, theirs = (model.generate(**inputs, max_new_tokens=new_tokens, do_sample=False) for model in (ours, builtin))
    start = inputs["input_ids"].shape[1]
    return float((mine[:, start:] == theirs[:, start:]).float().mean())


def _milliseconds(seconds: list[float]) -> float:
    return float(f"{median(seconds) * 1e3:.4g}")


if __name__ == "__main__":
    sys.exit(main("inference", measure))
