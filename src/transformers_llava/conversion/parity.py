"""Run the same images and prompts through two checkpoints, and measure how far the results lie apart."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from transformers_llava.conversion.configs.builtin import padded_rows
from transformers_llava.conversion.configs.layouts import layout_of, read_config
from transformers_llava.conversion.conversion_report import ParityCase, ParityReport
from transformers_llava.conversion.load import load_checkpoint


PROMPTS = ("What is shown in this picture?", "Describe the picture in detail.")


def check_parity(
    source: str | Path,
    target: str | Path,
    *,
    images: Sequence[Image.Image] | None = None,
    prompts: Sequence[str] = PROMPTS,
    max_new_tokens: int = 8,
    dtype: torch.dtype | None = None,
    **source_options: Any,
) -> ParityReport:
    """
    Compares two checkpoints in float32 on the CPU.

    Args:
        source (`str`): Folder of any kind that this package reads.
        target (`str`): Folder of an open_llava or built-in checkpoint; loaded by the class that its configuration
            names.
        images (`Sequence[PIL.Image]`, *optional*): Five generated ones by default: square, wide, tall, small,
            photo-like.
        prompts (`Sequence[str]`, *optional*): Questions about each; the first is also asked without an image.
        max_new_tokens (`int`, *optional*, defaults to 8): Length of the greedy answers.
        dtype (`torch.dtype`, *optional*): Precision that the conversion rounded the weights to. The source's are
            rounded likewise before the comparison, which then shows the conversion and not the rounding.
        source_options: `base`, `vision_tower`, `template` for [`load_checkpoint`].
    """
    report = ParityReport()
    first = _load(source, report.problems, **source_options)
    second = _load(target, report.problems)
    if dtype is not None:
        for parameter in first[0].parameters():
            parameter.data = parameter.data.to(dtype).float()
    side = int(getattr(first[0].config.vision_config, "image_size", 336))
    images = list(images) if images is not None else _images(side)
    for prompt in prompts:
        report.cases += [_compare(first, second, prompt, image, max_new_tokens) for image in images]
    report.cases.append(_compare(first, second, prompts[0], None, max_new_tokens))
    return report


def _load(folder: str | Path, problems: list[str], **options: Any) -> tuple[Any, Any]:
    given = {name: value for name, value in options.items() if value is not None}
    if (
        Path(folder).is_dir()
        and not given
        and layout_of(read_config(folder)) is not None
        and _has_weights(Path(folder))
    ):
        # The way a user loads it: through transformers' loader, which reads, places and ties the weights itself.
        processor = AutoProcessor.from_pretrained(folder)
        model, info = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True
        )
        lacking = {"missing_keys": "is missing", "mismatched_keys": "has another shape"}
        for kind, what in lacking.items():
            problems += [f"{key} {what} in {Path(folder).name}" for key in sorted(map(str, info.get(kind) or ()))]
        return model.eval(), processor
    return load_checkpoint(folder, dtype=torch.float32, **given)


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("model*.safetensors")) or any(folder.glob("pytorch_model*.bin"))


def _compare(
    first: tuple[Any, Any], second: tuple[Any, Any], prompt: str, image: Image.Image | None, max_new_tokens: int
) -> ParityCase:
    a = _run(*first, prompt, image, max_new_tokens)
    b = _run(*second, prompt, image, max_new_tokens)
    columns = min(a["logits"].shape[-1], b["logits"].shape[-1])
    widest = max((a, b), key=lambda run: run["logits"].shape[-1])
    # An export fills its table up so that the image token has a row; any other difference is one of the vocabulary.
    fits = widest["logits"].shape[-1] in (columns, padded_rows(widest["image_token_id"]))
    return ParityCase(
        prompt=prompt,
        size=None if image is None else image.size,
        token_ids_equal=a["ids"] == b["ids"],
        pixels=_difference(a["pixels"], b["pixels"], relative=False),
        features=_difference(a["features"], b["features"]),
        logits=_difference(a["logits"][:, :columns], b["logits"][:, :columns]) if fits else float("inf"),
        greedy_equal=a["answer"] == b["answer"],
        spare_rows=float(widest["logits"].softmax(-1)[:, columns:].sum(-1).max()),
    )


@torch.no_grad()
def _run(model: Any, processor: Any, prompt: str, image: Image.Image | None, max_new_tokens: int) -> dict[str, Any]:
    content: list[dict[str, str]] = [{"type": "image"}] if image is not None else []
    messages = [{"role": "user", "content": [*content, {"type": "text", "text": prompt}]}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    images = {} if image is None else {"images": [image]}
    inputs = processor(text=[text], return_tensors="pt", **images)
    image_token_id = model.config.image_token_id
    ids = [-200 if token == image_token_id else token for token in inputs["input_ids"][0].tolist()]
    pixels = features = torch.zeros(0)
    if image is not None:
        pixels = inputs["pixel_values"].flatten(end_dim=-4)
        sizes = {"image_sizes": inputs["image_sizes"]} if "image_sizes" in inputs else {}
        features = torch.cat(list(model.get_image_features(inputs["pixel_values"], **sizes).pooler_output))
    answer = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)[0, len(ids) :]
    return {
        "ids": ids,
        "image_token_id": image_token_id,
        "pixels": pixels,
        "features": features.float(),
        "logits": model(**inputs).logits[0].float(),
        "answer": answer.tolist(),
    }


def _difference(a: torch.Tensor, b: torch.Tensor, *, relative: bool = True) -> float:
    if a.shape != b.shape:
        return float("inf")
    if a.numel() == 0:
        return 0.0
    scale = float(a.abs().max()) if relative else 1.0
    return float((a - b).abs().max()) / max(scale, 1e-12)


def _images(side: int) -> list[Image.Image]:
    """Smooth colours with noise, from a fixed seed, in shapes that take different ways through the preprocessing."""
    generator = torch.Generator().manual_seed(0)
    sizes = [
        (side, side),
        (2 * side + 9, side),
        (side - 5, 2 * side + 1),
        (side // 2, side // 3),
        (3 * side, 2 * side + 7),
    ]
    images = []
    for width, height in sizes:
        x = torch.linspace(0, 1, width)[None, :, None]
        y = torch.linspace(0, 1, height)[:, None, None]
        phase = torch.rand(3, generator=generator)
        smooth = torch.sin(6.28 * (x * phase + y * (1 - phase) + phase)) * 90 + 128
        pixels = smooth + torch.randn(height, width, 3, generator=generator) * 20
        images.append(Image.fromarray(pixels.clamp(0, 255).to(torch.uint8).numpy()))
    return images


__all__ = ["check_parity"]
