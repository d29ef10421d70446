"""Packaged files are found by kind and name, and by nothing else."""

from pathlib import Path
from typing import get_args

import pytest

from transformers_llava.packaged import (
    Kind,
    PackagedFileError,
    file_or_packaged,
    list_packaged,
    packaged_file,
    packaged_name,
)


KNOWN: list[tuple[Kind, str]] = [
    ("recipe", "tiny/1_align"),
    ("mixture", "demo"),
    ("accelerate_config", "cpu"),
    ("chat_template", "vicuna_v1"),
]


@pytest.mark.parametrize(("kind", "name"), KNOWN)
def test_a_packaged_file_is_found_with_and_without_its_suffix(kind: Kind, name: str) -> None:
    file = packaged_file(kind, name)
    assert name in list_packaged(kind)
    assert file.is_file()
    assert packaged_file(kind, name + file.suffix) == file_or_packaged(kind, name) == file
    assert packaged_name(kind, file) == name


def test_a_name_that_is_none_is_answered_with_the_nearest_and_with_all() -> None:
    with pytest.raises(
        PackagedFileError, match=r"neither a file .* Did you mean 'tiny/1_align'\? Packaged are: llava-v1"
    ):
        file_or_packaged("recipe", "tiny/1_aling")
    with pytest.raises(
        PackagedFileError, match=r"'x' is not a packaged accelerate configuration. Packaged are: cpu, ddp"
    ):
        packaged_file("accelerate_config", "x")


def test_a_file_of_the_users_goes_first_where_one_may_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").touch()
    assert file_or_packaged("mixture", "demo") == Path("demo")
    assert packaged_file("mixture", "demo").suffix == ".yaml"
    assert packaged_name("mixture", Path("demo")) == "demo"


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("name", ["../mixtures/demo", "../recipes/tiny/1_align", "/etc/hosts", ""])
def test_a_name_leads_out_of_no_folder(kind: Kind, name: str) -> None:
    with pytest.raises(PackagedFileError):
        packaged_file(kind, name)
