"""The demo's pre-trained parts in a few steps: losses fall, the same seed gives the same bits, and they assemble."""

import hashlib
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, CLIPVisionModel

from transformers_llava.demo.base_models.language_model import LanguageModelSettings
from transformers_llava.demo.base_models.pretrain import make_parts
from transformers_llava.demo.base_models.vision_tower import VisionTowerSettings
from transformers_llava.demo.data.scenes import write_scenes
from transformers_llava.demo.data.source_files import SourceFiles
from transformers_llava.demo.data.text_only import write_text_only
from transformers_llava.training.model.assembly import assemble_model
from transformers_llava.training.recipe.configs import ModelConfig


SMALL_TOWER = VisionTowerSettings(hidden_size=32, num_layers=2, text_hidden_size=32, num_steps=15, batch_size=16)
SMALL_LANGUAGE_MODEL = LanguageModelSettings(hidden_size=32, num_layers=1, num_heads=2, num_steps=15, batch_size=8)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[SourceFiles]:
    folder = tmp_path_factory.mktemp("data")
    scenes = write_scenes(folder / "scenes", seed=0, num_train=40, num_test=8)
    return [scenes, write_text_only(folder / "text", seed=0, num_records=10)]


def make(sources: list[SourceFiles], folder: Path, seed: int = 0) -> dict:
    settings = {"vision_tower": SMALL_TOWER, "language_model": SMALL_LANGUAGE_MODEL}
    return make_parts(sources, folder, seed=seed, progress=False, **settings)


def digest(folder: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.rglob("*.safetensors")))).hexdigest()


@pytest.fixture(scope="module")
def parts(sources: list[SourceFiles], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("parts")
    return folder, make(sources, folder)


def test_both_losses_fall(parts: tuple[Path, dict]) -> None:
    for report in parts[1].values():
        assert report["last_loss"] < report["first_loss"]


def test_the_same_seed_gives_the_same_bits(
    parts: tuple[Path, dict], sources: list[SourceFiles], tmp_path: Path
) -> None:
    make(sources, tmp_path / "again")
    make(sources, tmp_path / "other", seed=1)
    assert digest(tmp_path / "again") == digest(parts[0])
    assert digest(tmp_path / "other") != digest(parts[0])


def test_the_parts_load_by_themselves_and_the_tokenizer_adds_no_bos(parts: tuple[Path, dict]) -> None:
    folder = parts[0]
    assert CLIPVisionModel.from_pretrained(folder / "vision_tower").config.image_size == 32
    language_model = AutoModelForCausalLM.from_pretrained(folder / "language_model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "language_model")
    assert language_model.config.vocab_size == len(tokenizer)
    ids = tokenizer("two red crosses: top left.").input_ids
    assert tokenizer.bos_token_id not in ids
    assert tokenizer.decode(ids) == "two red crosses: top left."
    assert "<image>" not in tokenizer.get_vocab()


def test_the_parts_become_a_llava_whose_image_token_needs_no_row(parts: tuple[Path, dict]) -> None:
    folder = parts[0]
    config = ModelConfig(
        language_model_name_or_path=str(folder / "language_model"),
        vision_tower_name_or_path=str(folder / "vision_tower"),
    )
    model, processor = assemble_model(config, seed=0)
    assert model.config.image_token_id == model.config.text_config.vocab_size
    assert processor.num_image_tokens(96, 96) == 16
