"""Show that exports answer in transformers 4.57 as they do here: written by one environment, loaded by another.

`make old-transformers` runs `write FOLDER` in the project's environment and `compare FOLDER` in one that holds torch,
Pillow and transformers 4.57.6, and neither this package nor these tests.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, __version__


SIZES = [(28, 28), (60, 28), (30, 70), (17, 90), (84, 60)]
QUESTIONS = ["What is it?", "Describe the image in detail."]
ANYRES = {
    "image_aspect_ratio": "anyres",
    "image_grid_pinpoints": [[28, 56], [56, 28], [56, 56]],
    "mm_patch_merge_type": "spatial_unpad",
}
# Positions other than the default's: what 4.57 would pass over in silence.
LLAMA_3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llava": ("llama", {"image_aspect_ratio": "pad", "rope_theta": 77.0}),
    "llava_rope_scaling": ("llama", {"image_aspect_ratio": "pad", "rope_theta": 500.0, "rope_scaling": LLAMA_3}),
    "llava_class_token": ("mistral", {"rope_theta": 50.0, "mm_vision_select_feature": "cls_patch"}),
    "llava_qwen2": ("qwen2", {"tie_word_embeddings": True, "rope_theta": 99.0}),
    "llava_next": ("mistral", {**ANYRES, "rope_theta": 33.0}),
    "llava_next_llama": ("llama", {**ANYRES, "rope_theta": 10000.0}),
}


def write(root: Path) -> None:
    """Write one export per case, images, and what the installed transformers gives for them."""
    from safetensors.torch import load_file, save_file

    from support.original_folders import write_original
    from tiny import make_image
    from transformers_llava.conversion.convert import convert_checkpoint

    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for i, size in enumerate(SIZES):
        make_image(*size, seed=i).save(root / f"{i}.png")
    for name, (text_type, fields) in CASES.items():
        original = write_original(root / "originals" / name, text_type, **fields).folder
        if name.startswith("llava_next"):
            state = load_file(original / "model.safetensors")
            state["model.image_newline"] = torch.randn(32, generator=torch.Generator().manual_seed(3))
            save_file(state, original / "model.safetensors", metadata={"format": "pt"})
        if name in ("llava", "llava_next_llama"):  # a SentencePiece vocabulary, whose file goes along
            (original / "tokenizer.json").unlink()
            fixture = Path(__file__).parents[1] / "fixtures" / "text" / "llama.model"
            shutil.copyfile(fixture, original / "tokenizer.model")
            settings = {"tokenizer_class": "LlamaTokenizer", "legacy": name == "llava", "add_bos_token": True}
            (original / "tokenizer_config.json").write_text(json.dumps(settings))
        convert_checkpoint(original, root / name, to="builtin", check_parity=True)
        torch.save(_run(root / name, root), root / f"{name}.pt")


def compare(root: Path) -> int:
    """Load the folders with the installed transformers and compare; returns the number of cases that differ."""
    failures = 0
    print(f"transformers {__version__}, torch {torch.__version__}")
    for name in CASES:
        wanted = torch.load(root / f"{name}.pt", weights_only=True)
        try:
            found = _run(root / name, root)
        except Exception as error:  # whatever stops a user there is the answer
            print(f"{name:<20} FAILED: {type(error).__name__}: {str(error)[:200]}")
            failures += 1
            continue
        equal_ids = sum(a["ids"] == b["ids"] for a, b in zip(wanted, found, strict=True))
        equal_answers = sum(a["answer"] == b["answer"] for a, b in zip(wanted, found, strict=True))
        largest = max(_distance(a["logits"], b["logits"]) for a, b in zip(wanted, found, strict=True))
        passed = equal_ids == equal_answers == len(wanted) > 0 and largest <= 1e-5
        failures += not passed
        print(
            f"{name:<20} {'ok    ' if passed else 'FAILED'} ids {equal_ids}/{len(wanted)}, greedy answers "
            f"{equal_answers}/{len(wanted)}, logits {largest:.1e}"
        )
    return failures


@torch.no_grad()
def _run(folder: Path, root: Path) -> list[dict[str, Any]]:
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    assert processor.tokenizer.padding_side == "left"
    results = []
    for question in QUESTIONS:
        for i in (*range(len(SIZES)), None):
            image = None if i is None else Image.open(root / f"{i}.png")
            parts = [{"type": "image"}] if image else []
            messages = [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}]
            text = processor.apply_chat_template(messages, add_generation_prompt=True)
            inputs = processor(text=[text], return_tensors="pt", **({"images": [image]} if image else {}))
            answer = model.generate(**inputs, max_new_tokens=8, do_sample=False)
            results.append(
                {
                    "ids": inputs["input_ids"][0].tolist(),
                    "logits": model(**inputs).logits[0],
                    "answer": answer[0].tolist(),
                }
            )
    return results


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference relative to the largest value; infinite for other shapes and for what is no number."""
    if a.shape != b.shape or not (a.isfinite().all() and b.isfinite().all()):
        return float("inf")
    return float((a - b).abs().max() / a.abs().max())


if __name__ == "__main__":
    what, where = sys.argv[1:]
    if what == "write":
        write(Path(where))
    else:
        sys.exit(compare(Path(where)) > 0)
