"""Turn recorded runs of the original into our inputs: each -200 becomes as many image tokens as its image costs."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file

from transformers_llava.modeling.vision.vision_tower import encode_tiles


# Video, which open_llava does not have, and LLaVA-NeXT's several images as one tile each: `single_tile_newline`.
VIDEO = "video_"
ONE_TILE = "two_padded_images_one_prompt"


@dataclass(frozen=True)
class RecordedCase:
    """One folder of `expected/`: what the original computed from the checkpoint of the same name."""

    golden: Path
    name: str

    @cached_property
    def data(self) -> dict[str, Any]:
        return json.loads((self.golden / "expected" / self.name / "expected.json").read_text(encoding="utf-8"))

    @cached_property
    def tensors(self) -> dict[str, torch.Tensor]:
        return load_file(self.golden / "expected" / self.name / "expected.safetensors")

    @property
    def checkpoint(self) -> Path:
        return self.golden / "checkpoints" / self.name

    def image(self, name: str) -> Image.Image:
        return Image.open(self.golden / "images" / name).convert("RGB")

    def inputs(
        self,
        processor: Any,
        rows: list[list[int]],
        files: list[str | None],
        *,
        side: str = "right",
        **images_kwargs: Any,
    ) -> dict[str, Any]:
        """Token ids as recorded, padded on one side, with the images through our image processor."""
        opened = [self.image(name) for name in files if name]
        sizes = iter([image.size for image in opened])
        expanded = [
            [
                token
                for recorded in row
                for token in (
                    [processor.image_token_id] * processor.num_image_tokens(*next(sizes), **images_kwargs)
                    if recorded == -200
                    else [recorded]
                )
            ]
            for row in rows
        ]
        batch = pad(expanded, 0, side)
        mask = pad([[1] * len(row) for row in expanded], 0, side)
        images = processor.image_processor(opened, return_tensors="pt", **images_kwargs) if opened else {}
        return {"input_ids": batch, "attention_mask": mask, **images}

    def training_batch(self, processor: Any, max_length: int | None) -> dict[str, Any]:
        """The recorded batch, expanded and then cut to the checkpoint's maximal length, as the original does."""
        batch = self.data["training"]["batch"]
        file = self.golden / self.data["training"].get("data_file", "data/chat.json")
        samples = {sample["id"]: sample for sample in json.loads(file.read_text(encoding="utf-8"))}
        images = [samples[name].get("image") for name in batch["sample_ids"]]
        images = [name[0] if isinstance(name, list) else name for name in images]
        images = [p if -200 in row else None for p, row in zip(images, batch["input_ids"], strict=True)]
        ids, labels = [], []
        for row, targets, name in zip(batch["input_ids"], batch["labels"], images, strict=True):
            count = processor.num_image_tokens(*self.image(name).size) if name else 0
            length = len(row)
            while length and targets[length - 1] == -100 and row[length - 1] == processor.tokenizer.pad_token_id:
                length -= 1
            new_ids, new_labels = [], []
            for token, target in zip(row[:length], targets[:length], strict=True):
                repeat = count if token == -200 else 1
                new_ids += [processor.image_token_id if token == -200 else token] * repeat
                new_labels += [target] * repeat
            ids.append(new_ids[:max_length])
            labels.append(new_labels[:max_length])
        opened = [self.image(name) for name in images if name]
        return {
            "input_ids": pad(ids, 0),
            "attention_mask": pad([[1] * len(row) for row in ids], 0),
            "labels": pad(labels, -100),
            **processor.image_processor(opened, return_tensors="pt"),
        }


def check_images(case: RecordedCase, model: Any, processor: Any) -> None:
    """Token counts, pixels, projected and merged features of every recorded image."""
    checked = 0
    for file, recorded in case.data["images"].items():
        image = case.image(file)
        batch = processor.image_processor(image, return_tensors="pt")
        pixels = batch["pixel_values"]
        assert processor.num_image_tokens(*image.size) == recorded["visual_tokens"], file
        stored = case.tensors.get(f"pixel_values/{file}")
        if stored is not None:
            assert float((pixels.view(stored.shape) - stored).abs().max()) <= 1e-6
        contiguous = pixels.reshape(recorded["pixel_values_shape"]).contiguous().numpy()
        assert hashlib.sha256(contiguous.tobytes()).hexdigest() == recorded["pixel_values_sha256"], file
        wanted = {kind: case.tensors.get(f"{kind}/{file}") for kind in ("encode_images", "encode_images_rows")}
        spliced = {kind: case.tensors.get(f"{kind}/{file}") for kind in ("spliced_features", "spliced_features_rows")}
        if all(tensor is None for tensor in (*wanted.values(), *spliced.values())):
            continue
        with torch.no_grad():
            projected = model.model.multi_modal_projector(
                encode_tiles(model.model.vision_tower, model.config, pixels)[0]
            )
            merged = model.get_image_features(pixels, batch["image_sizes"]).pooler_output[0]
        for kind, tensor in wanted.items():
            if tensor is not None:
                ours = projected[:, ::81] if kind.endswith("rows") else projected
                assert relative_difference(ours.reshape(tensor.shape), tensor) < 1e-4, (file, kind)
        for kind, tensor in spliced.items():
            if tensor is not None:
                assert relative_difference(merged[::29] if kind.endswith("rows") else merged, tensor) < 1e-4, (
                    file,
                    kind,
                )
        checked += 1
    assert checked


def check_logits(case: RecordedCase, model: Any, processor: Any) -> None:
    """Every recorded forward call on images and text."""
    calls = {call: data for call, data in case.data["forward"].items() if not call.startswith(VIDEO)}
    assert calls
    for call, data in calls.items():
        one_tile = {"image_aspect_ratio": "pad"} if call == ONE_TILE else {}
        inputs = case.inputs(processor, data["input_ids"], data["images"], **one_tile)
        with torch.no_grad():
            logits = model(**inputs).logits
        for i, row in enumerate(data["rows"]):
            assert int(inputs["attention_mask"][i].sum()) == row["valid_length"], (call, i)
            ours = logits[i, : row["valid_length"], : row["vocab_columns"]]
            prefix = f"forward/{call}/{i}"
            pairs = [
                ("logits", lambda x: x),
                ("logits_rows", lambda x, row=row: x[row["row_positions"]]),
                ("logits_cols", lambda x, row=row: x[:, row["column_ids"]]),
                ("logsumexp", lambda x: x.logsumexp(-1)),
            ]
            present = [(kind, pick) for kind, pick in pairs if f"{prefix}/{kind}" in case.tensors]
            assert present, prefix
            for kind, pick in present:
                assert relative_difference(pick(ours), case.tensors[f"{prefix}/{kind}"]) < 1e-4, (call, kind)
            assert int(ours[-1].argmax()) == row["argmax_last"]


def check_answers(case: RecordedCase, model: Any, processor: Any) -> None:
    """Every recorded greedy answer, as far as the original was sure of it."""
    assert model.get_input_embeddings().weight.shape[0] == case.data["embedding_rows_after_loading"]
    prompts = case.data["prompts"][case.data["primary_template"]]
    for call, data in case.data["generate"].items():
        several = isinstance(data["new_token_ids"][0], list)
        rows = [prompts[prompt]["input_ids"] for prompt in (data["prompts"] if several else [data["prompt"]])]
        inputs = case.inputs(processor, rows, data["images"], side="left")
        answers = model.generate(**inputs, max_new_tokens=data.get("max_new_tokens", 16), do_sample=False)
        answers = answers[:, inputs["input_ids"].shape[1] :].tolist()
        recorded = data["new_token_ids"] if several else [data["new_token_ids"]]
        counts = data["compare_first_n"] if several else [data["compare_first_n"]]
        for ours, wanted, count in zip(answers, recorded, counts, strict=True):
            assert ours[: min(count, len(wanted))] == wanted[:count], call


def pad(rows: list[list[int]], value: int, side: str = "right") -> torch.Tensor:
    length = max(map(len, rows))
    filled = [
        row + [value] * (length - len(row)) if side == "right" else [value] * (length - len(row)) + row for row in rows
    ]
    return torch.tensor(filled)


def relative_difference(ours: torch.Tensor, recorded: torch.Tensor) -> float:
    assert ours.shape == recorded.shape, (ours.shape, recorded.shape)
    return float((ours - recorded).abs().max() / recorded.abs().max().clamp_min(1e-12))
