"""A signature holds for the files that were signed and the key that signed them, and for nothing else."""

import subprocess
from pathlib import Path

import pytest

from transformers_llava.hub.publication.signing import SigningError, check, sign


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


def test_it_holds_in_the_hub_cache_and_from_a_relative_path(
    folder: Path, keys: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There every file is a link; and the card may be edited from wherever the program was started."""
    sign(folder, keys["mine"])
    (folder / "README.md").write_text("an edited card")
    monkeypatch.chdir(tmp_path)
    check(Path("publication"), keys["mine.pub"])
    snapshot = tmp_path / "models--me--x/snapshots/0"
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        target = snapshot / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
    check(snapshot, keys["mine.pub"])


@pytest.mark.parametrize("name", [".cache/x", "recipe/.cache/huggingface/x", ".gitignore", ".github/x.yml", "x.md"])
def test_what_is_added_breaks_it_unless_it_is_git_s_or_the_client_s(
    folder: Path, keys: dict[str, Path], name: str
) -> None:
    sign(folder, keys["mine"])
    for harmless in (".git/HEAD", ".cache/huggingface/download/x.metadata", ".gitattributes"):
        (folder / harmless).parent.mkdir(parents=True, exist_ok=True)
        (folder / harmless).write_text("x")
    check(folder, keys["mine.pub"])
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("x")
    with pytest.raises(SigningError, match="x"):
        check(folder, keys["mine.pub"])


def test_what_is_no_key_is_said_so(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret")
    with pytest.raises(SigningError, match="Use an EC key"):
        sign(folder, tmp_path / "key")
