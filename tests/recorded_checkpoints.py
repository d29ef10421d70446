"""The recorded runs of the original as inputs of ours: each -200 becomes as many image tokens as its picture costs."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file


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

    def picture(self, name: str) -> Image.Image:
        return Image.open(self.golden / "images" / name).convert("RGB")

    def inputs(
        self,
        processor: Any,
        rows: list[list[int]],
        pictures: list[str | None],
        *,
        side: str = "right",
        **images_kwargs: Any,
    ) -> dict[str, Any]:
        """Token ids as recorded, padded on one side, with the pictures through our image processor."""
        opened = [self.picture(name) for name in pictures if name]
        sizes = iter([picture.size for picture in opened])
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
        pictures = [samples[name].get("image") for name in batch["sample_ids"]]
        pictures = [name[0] if isinstance(name, list) else name for name in pictures]
        pictures = [p if -200 in row else None for p, row in zip(pictures, batch["input_ids"], strict=True)]
        ids, labels = [], []
        for row, targets, name in zip(batch["input_ids"], batch["labels"], pictures, strict=True):
            count = processor.num_image_tokens(*self.picture(name).size) if name else 0
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
        opened = [self.picture(name) for name in pictures if name]
        return {
            "input_ids": pad(ids, 0),
            "attention_mask": pad([[1] * len(row) for row in ids], 0),
            "labels": pad(labels, -100),
            **processor.image_processor(opened, return_tensors="pt"),
        }


def pad(rows: list[list[int]], value: int, side: str = "right") -> torch.Tensor:
    length = max(map(len, rows))
    filled = [
        row + [value] * (length - len(row)) if side == "right" else [value] * (length - len(row)) + row for row in rows
    ]
    return torch.tensor(filled)


def relative_difference(ours: torch.Tensor, recorded: torch.Tensor) -> float:
    assert ours.shape == recorded.shape, (ours.shape, recorded.shape)
    return float((ours - recorded).abs().max() / recorded.abs().max().clamp_min(1e-12))
