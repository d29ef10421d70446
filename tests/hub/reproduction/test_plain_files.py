"""What lies in a publication is looked at before it is read; what the Hub's cache makes of it is plain too."""

from pathlib import Path

import pytest

from transformers_llava.hub.reproduction.plain_files import (
    UnsafeFileError,
    check_plain,
    data_files,
    latest_checkpoint,
    model_files,
)


def snapshot(cache: Path) -> Path:
    """As the Hub's client lays it out: every file a link to a blob."""
    folder, blobs = cache / "models--me--x/snapshots" / ("a" * 40), cache / "models--me--x/blobs"
    blobs.mkdir(parents=True)
    for number, name in enumerate(
        ("run.json", "recipe/data/toys/train.json", "recipe/bases/vision_tower/config.json")
    ):
        (blobs / str(number)).write_text("{}")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(blobs / str(number))
    return folder


def test_links_of_the_hubs_cache_are_followed_and_others_are_not(tmp_path: Path) -> None:
    folder = snapshot(tmp_path)
    check_plain(folder)
    assert [path.name for path in data_files(folder / "recipe/data/toys/train.json", may_be_archive=False)]
    assert [path.name for path in model_files(folder / "recipe/bases/vision_tower")] == ["config.json"]
    (tmp_path / "secret.json").write_text("{}")
    (folder / "recipe/data/toys/more.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(UnsafeFileError, match=r"'recipe/data/toys/more.json' is a link that leads out"):
        check_plain(folder)


def test_the_latest_state_is_told_by_its_number(tmp_path: Path) -> None:
    for name in ("checkpoint-9", "checkpoint-10", "checkpoint-x", "checkpoint-11.bak"):
        (tmp_path / name).mkdir()
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


def test_what_a_model_does_not_need_is_left_behind(tmp_path: Path) -> None:
    for name in ("config.json", "adapter_config.json", "README.md", "model.safetensors", "pytorch_model.bin", "x.sh"):
        (tmp_path / name).write_text("{}")
    assert [path.name for path in model_files(tmp_path)] == ["config.json", "model.safetensors"]
