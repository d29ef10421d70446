"""llava-hf checkpoints load through our class, ours leave as llava-hf folders, and come back the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from support.builtin_folders import ONE_WAY_PINPOINTS, PINPOINTS, write_builtin
from support.original_folders import write_original
from tiny import make_image
from transformers_llava import OpenLlavaForConditionalGeneration, OpenLlavaProcessor
from transformers_llava.conversion.auto_classes import override_builtin_classes
from transformers_llava.conversion.convert import convert_checkpoint
from transformers_llava.conversion.export import builtin_type
from transformers_llava.conversion.parity import check_parity


PROMPT = "<s>USER: <image>\nWhat is this? ASSISTANT:"
SIZES = [
    (100, 37),
    (40, 90),
    (64, 64),
]  # larger than a tile: smaller ones tie, which the built-in class breaks otherwise


@torch.no_grad()
def onevision_logits(model, images, ids, size):
    """The built-in OneVision's processor needs torchvision, so its model gets the ids of ours."""
    batch = images(make_image(*size), return_tensors="pt")
    return model(input_ids=ids, pixel_values=batch["pixel_values"], image_sizes=batch["image_sizes"]).logits[0]


@torch.no_grad()
def logits(model, processor, size, text=PROMPT):
    inputs = processor(images=make_image(*size), text=text, return_tensors="pt")
    return model(**inputs).logits[0]


def largest(difference: torch.Tensor) -> float:
    return float(difference.abs().max())


@pytest.mark.parametrize("nesting", ["old", "new"])
@pytest.mark.parametrize("kind", ["llava", "llava_next", "llava_onevision"])
def test_llava_hf_layouts_load_through_our_class(tmp_path, kind, nesting):
    builtin, builtin_processor = write_builtin(tmp_path / "hf", kind, nesting=nesting)
    model, info = OpenLlavaForConditionalGeneration.from_pretrained(
        tmp_path / "hf", dtype=torch.float32, output_loading_info=True
    )
    assert not any(info.values()), {name: keys for name, keys in info.items() if keys}
    processor = OpenLlavaProcessor.from_pretrained(tmp_path / "hf")
    for size in SIZES:
        ours = logits(model.eval(), processor, size)
        if kind == "llava_onevision":
            ids = processor(images=make_image(*size), text=PROMPT, return_tensors="pt")["input_ids"]
            theirs = onevision_logits(builtin, builtin_processor, ids, size)
        else:
            theirs = logits(builtin, builtin_processor, size)
        assert ours.shape == theirs.shape, size
        assert largest(ours - theirs) < 2e-5 * largest(theirs), size


def test_a_llava_hf_folder_that_pads_is_padded(tmp_path):
    builtin, builtin_processor = write_builtin(tmp_path / "hf", do_pad=True)
    model = OpenLlavaForConditionalGeneration.from_pretrained(tmp_path / "hf", dtype=torch.float32).eval()
    processor = OpenLlavaProcessor.from_pretrained(tmp_path / "hf")
    assert model.config.image_aspect_ratio == processor.image_processor.image_aspect_ratio == "pad"
    assert largest(logits(model, processor, (100, 37)) - logits(builtin, builtin_processor, (100, 37))) < 1e-4


def test_pinpoints_that_are_not_their_own_transpose_are_read_as_height_and_width(tmp_path):
    builtin, builtin_processor = write_builtin(tmp_path / "hf", "llava_next", pinpoints=ONE_WAY_PINPOINTS)
    model = OpenLlavaForConditionalGeneration.from_pretrained(tmp_path / "hf", dtype=torch.float32).eval()
    assert model.config.image_grid_pinpoints == [[56, 28], [56, 56], [28, 84]]
    processor = OpenLlavaProcessor.from_pretrained(tmp_path / "hf")
    for size in SIZES:
        assert largest(logits(model, processor, size) - logits(builtin, builtin_processor, size)) < 1e-4


def test_override_builtin_classes_sends_the_auto_classes_to_ours_until_undone(tmp_path):
    write_builtin(tmp_path / "hf", "llava_next")
    before = type(AutoModelForImageTextToText.from_pretrained(tmp_path / "hf")).__name__
    undo = override_builtin_classes()
    try:
        model = AutoModelForImageTextToText.from_pretrained(tmp_path / "hf")
        assert type(model) is OpenLlavaForConditionalGeneration
        assert type(AutoProcessor.from_pretrained(tmp_path / "hf")) is OpenLlavaProcessor
    finally:
        undo()
    after = type(AutoModelForImageTextToText.from_pretrained(tmp_path / "hf")).__name__
    assert before == after == "LlavaNextForConditionalGeneration"
    assert type(AutoProcessor.from_pretrained(tmp_path / "hf")).__name__ == "LlavaNextProcessor"


def export_cases(tmp_path: Path):
    anyres = {
        "image_aspect_ratio": "anyres",
        "image_grid_pinpoints": PINPOINTS,
        "mm_patch_merge_type": "spatial_unpad",
    }
    return {
        "square": ("llama", {}),
        "pad": ("mistral", {"image_aspect_ratio": "pad"}),
        "class token": ("llama", {"mm_vision_select_feature": "cls_patch", "mm_vision_select_layer": -3}),
        "anyres": ("llama", anyres),
        "tied": ("qwen2", {"tie_word_embeddings": True}),
        "mixtral": ("mixtral", {}),
        "gemma": ("gemma", {}),
    }


@pytest.mark.parametrize("case", ["square", "pad", "class token", "anyres", "tied", "mixtral", "gemma"])
def test_original_to_ours_to_builtin_to_ours_keeps_every_number(tmp_path, case):
    text_type, fields = export_cases(tmp_path)[case]
    original = write_original(tmp_path / "original", text_type, **fields)
    if case == "anyres":
        _add_newline(original.folder)
    first = convert_checkpoint(original.folder, tmp_path / "ours", check_parity=True)
    second = convert_checkpoint(tmp_path / "ours", tmp_path / "builtin", to="builtin", check_parity=True)
    third = convert_checkpoint(tmp_path / "builtin", tmp_path / "again", check_parity=True)
    for report in (first, second, third):
        assert report.parity is not None
        assert report.parity.passed, str(report)
    assert check_parity(tmp_path / "ours", tmp_path / "again").passed
    ours, again = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("ours", "again"))
    assert ours == again
    first_state, last_state = (
        AutoModelForImageTextToText.from_pretrained(tmp_path / name, dtype=torch.float32).state_dict()
        for name in ("ours", "again")
    )
    assert all(torch.equal(first_state[key], last_state[key]) for key in first_state)


def test_the_export_loads_in_plain_transformers_without_this_package(tmp_path):
    fields = {
        "image_aspect_ratio": "anyres",
        "image_grid_pinpoints": PINPOINTS,
        "mm_patch_merge_type": "spatial_unpad",
    }
    original = write_original(tmp_path / "original", **fields)
    _add_newline(original.folder)
    convert_checkpoint(original.folder, tmp_path / "builtin", to="builtin")
    make_image(70, 41).save(tmp_path / "image.png")
    code = f"""
import sys, torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
assert "transformers_llava" not in sys.modules
processor = AutoProcessor.from_pretrained({str(tmp_path / "builtin")!r})
model, info = AutoModelForImageTextToText.from_pretrained({str(tmp_path / "builtin")!r}, output_loading_info=True)
assert not any(info.values()), info
messages = [{{"role": "user", "content": [{{"type": "image"}}, {{"type": "text", "text": "What is it?"}}]}}]
text = processor.apply_chat_template(messages, add_generation_prompt=True)
inputs = processor(images=Image.open({str(tmp_path / "image.png")!r}), text=text, return_tensors="pt")
with torch.no_grad():
    torch.save((inputs["input_ids"], model(**inputs).logits), {str(tmp_path / "out.pt")!r})
assert "transformers_llava" not in sys.modules
print(type(model).__name__, type(processor).__name__)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=_plain_environment(), check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["LlavaNextForConditionalGeneration", "LlavaNextProcessor"]
    ids, theirs = torch.load(tmp_path / "out.pt")
    model = AutoModelForImageTextToText.from_pretrained(original.folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(original.folder)
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    inputs = processor(images=make_image(70, 41), text=text, return_tensors="pt")
    assert torch.equal(inputs["input_ids"], ids)
    with torch.no_grad():
        ours = model(**inputs).logits
    assert largest(theirs[..., : ours.shape[-1]] - ours) < 1e-5 * largest(ours)


def _plain_environment() -> dict[str, str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {**environment, "HF_HUB_OFFLINE": "1"}


def test_exported_folders_carry_every_file_a_reader_asks_for(tmp_path):
    original = write_original(tmp_path / "original")
    convert_checkpoint(original.folder, tmp_path / "builtin", to="builtin")
    names = {path.name for path in (tmp_path / "builtin").iterdir()}
    needed = {"tokenizer.json", "processor_config.json", "preprocessor_config.json", "chat_template.jinja"}
    assert needed | {"generation_config.json", "config.json", "model.safetensors"} <= names
    from safetensors import safe_open

    with safe_open(tmp_path / "builtin" / "model.safetensors", "pt") as tensors:
        prefixes = {".".join(key.split(".")[:2]) for key in tensors.keys()}  # noqa: SIM118 (not a dict)
    assert prefixes == {
        "language_model.model",
        "language_model.lm_head",
        "vision_tower.vision_model",
        "multi_modal_projector.linear_1",
        "multi_modal_projector.linear_2",
    }


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"projector": "mlp3x_gelu"}, "mlp3x_gelu"),
        ({"projector": "linear"}, "linear"),
        ({"text_type": "mpt"}, "mpt"),
        (
            {"image_aspect_ratio": "anyres", "image_grid_pinpoints": PINPOINTS, "mm_patch_merge_type": "spatial"},
            "spatial",
        ),
        (
            {
                "image_aspect_ratio": "anyres_max_3",
                "image_grid_pinpoints": PINPOINTS,
                "mm_patch_merge_type": "spatial_unpad",
            },
            "anyres_max_3",
        ),
    ],
)
def test_what_the_built_in_classes_cannot_express_is_refused_with_the_reason(tmp_path, fields, reason):
    original = write_original(tmp_path / "original", **fields)
    if fields.get("mm_patch_merge_type") == "spatial_unpad":
        _add_newline(original.folder)
    with pytest.raises(ValueError, match=reason):
        convert_checkpoint(original.folder, tmp_path / "builtin", to="builtin")
    assert not (tmp_path / "builtin").exists()
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_an_anyres_checkpoint_that_merges_flat_has_no_built_in_class(tiny_model):
    config = tiny_model.config
    config.image_aspect_ratio, config.image_grid_pinpoints = "anyres", [[28, 56]]
    with pytest.raises(ValueError, match="flat"):
        builtin_type(config)


def _add_newline(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    state["model.image_newline"] = torch.randn(32, generator=torch.Generator().manual_seed(3))
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
