"""A signature holds for the files that were signed and the key that signed them, and for nothing else."""

import subprocess
from pathlib import Path

import pytest

from transformers_llava.hub.signing import SigningError, check, sign


pytest.importorskip("model_signing")


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Path]:
    """Two pairs of keys, as OpenSSL makes them."""
    found = {}
    for name in ("mine", "other"):
        private, public = tmp_path / f"{name}.pem", tmp_path / f"{name}.pub"
        command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(private)]
        subprocess.run(command, check=True)
        subprocess.run(["openssl", "ec", "-in", str(private), "-pubout", "-out", str(public)], check=True)
        found |= {name: private, f"{name}.pub": public}
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "publication"
    (folder / "recipe").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "recipe/a.yaml").write_text("seed: 0\n")
    (folder / "README.md").write_text("card")
    return folder


def test_it_holds_and_people_may_edit_the_card(folder: Path, keys: dict[str, Path]) -> None:
    assert sign(folder, keys["mine"]).name == "model.sig"
    check(folder, keys["mine.pub"])
    (folder / "README.md").write_text("an edited card")
    check(folder, keys["mine.pub"])


def test_another_key_or_another_byte_breaks_it(folder: Path, keys: dict[str, Path]) -> None:
    sign(folder, keys["mine"])
    with pytest.raises(SigningError, match=r"does not hold for other\.pub"):
        check(folder, keys["other.pub"])
    (folder / "recipe/a.yaml").write_text("seed: 1\n")
    with pytest.raises(SigningError, match=r"a\.yaml"):
        check(folder, keys["mine.pub"])


def test_what_is_no_key_is_said_so(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret")
    with pytest.raises(SigningError, match="Use an EC key"):
        sign(folder, tmp_path / "key")
