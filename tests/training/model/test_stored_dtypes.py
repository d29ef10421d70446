"""What is stored is what was learnt: the precision of the files and of the configuration, from folders and Hub ids."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from support.builtin_folders import write_builtin
from transformers_llava.training.model.assembly import load_model, source_state
from transformers_llava.training.recipe.configs import ModelConfig


def dtypes_in(state: dict[str, torch.Tensor], *prefixes: str) -> set[torch.dtype]:
    return {tensor.dtype for name, tensor in state.items() if name.startswith(prefixes)}


def say(config_file: Path, dtype: str) -> None:
    config_file.write_text(json.dumps({**json.loads(config_file.read_text()), "dtype": dtype}))


def put_into_cache(cache: Path, folder: Path, name: str) -> None:
    """As the Hub's client lays it out."""
    commit = "0123456789" * 4
    repository = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)


@pytest.fixture
def half_parts(parts: Path, tmp_path: Path) -> Path:
    """A language model in fp16 whose configuration says bf16, as many a repository on the Hub."""
    folder = tmp_path / "half"
    shutil.copytree(parts, folder)
    weights = folder / "language_model" / "model.safetensors"
    generator = torch.Generator().manual_seed(0)  # numbers that bf16 cannot hold
    state = {name: torch.randn(t.shape, generator=generator).half() for name, t in load_file(weights).items()}
    save_file(state, weights, metadata={"format": "pt"})
    say(folder / "language_model" / "config.json", "bfloat16")
    return folder


def test_files_and_configuration_agree_and_a_hub_id_gives_the_bits_of_its_folder(
    run: Callable, half_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    align: dict[str, Any] = {"chat_template": "plain", "language_model": None, "bf16": True, "num_train_epochs": 1}
    base = str(half_parts / "language_model")
    folder, _ = run(**align, language_model_name_or_path=base)
    saved = load_file(folder / "model.safetensors")
    stored = load_file(half_parts / "language_model" / "model.safetensors")
    assert torch.equal(saved["lm_head.weight"], stored["lm_head.weight"])  # bit for bit
    assert dtypes_in(saved, "model.language_model.", "lm_head.") == {torch.float16}
    assert dtypes_in(saved, "model.vision_tower.", "model.multi_modal_projector.") == {torch.float32}

    config = json.loads((folder / "config.json").read_text())
    sizes = {
        dtype: sum(t.nbytes for t in saved.values() if t.dtype == dtype) for dtype in (torch.float16, torch.float32)
    }
    assert config["dtype"] == str(max(sizes, key=lambda dtype: sizes[dtype])).removeprefix("torch.")
    assert config["text_config"]["dtype"] == "float16"
    assert config["vision_config"]["dtype"] == "float32"

    say(folder / "config.json", "bfloat16")  # as earlier versions of this package wrote it
    put_into_cache(tmp_path / "cache", folder, "me/aligned")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in (str(folder), "me/aligned"):
        state = source_state(ModelConfig(model_name_or_path=name), seed=0)
        assert state.keys() == saved.keys()
        assert all(
            torch.equal(tensor, saved[key]) and tensor.dtype == saved[key].dtype for key, tensor in state.items()
        )


def test_parts_are_read_as_their_files_have_them(half_parts: Path) -> None:
    names = {f"{part}_name_or_path": str(half_parts / part) for part in ("language_model", "vision_tower")}
    model, _ = load_model(ModelConfig(**names), seed=0)
    stored = load_file(half_parts / "language_model" / "model.safetensors")
    assert model.lm_head.weight.dtype == torch.float32
    assert torch.equal(model.lm_head.weight, stored["lm_head.weight"].float())


def test_a_fully_trained_language_model_is_said_to_be_in_the_precision_it_is_in(run: Callable) -> None:
    folder, _ = run(bf16=True, num_train_epochs=1)
    assert dtypes_in(load_file(folder / "model.safetensors"), "") == {torch.float32}
    config = json.loads((folder / "config.json").read_text())
    assert [config["dtype"], config["text_config"]["dtype"], config["vision_config"]["dtype"]] == ["float32"] * 3


@pytest.mark.parametrize("kind", ["llava", "llava_next"])
def test_a_checkpoint_in_another_layout_is_read_bit_for_bit_too(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "builtin"
    write_builtin(folder, kind)
    stored = load_file(folder / "model.safetensors")
    mixed = {name: tensor.half() if "language_model" in name else tensor.float() for name, tensor in stored.items()}
    save_file(mixed, folder / "model.safetensors", metadata={"format": "pt"})
    say(folder / "config.json", "bfloat16")
    state = source_state(ModelConfig(model_name_or_path=str(folder)), seed=0)
    assert dtypes_in(state, "model.language_model.") == {torch.float16}
    assert dtypes_in(state, "model.vision_tower.", "model.multi_modal_projector.") == {torch.float32}
    model, _ = load_model(ModelConfig(model_name_or_path=str(folder)), seed=0)
    expected = model.state_dict()
    assert expected.keys() <= state.keys()
    assert all(torch.equal(state[name].float(), tensor) for name, tensor in expected.items())
