"""A publication of before, whose files say `licence` and `pictures`, still follows from its own run record."""

import re
import shutil
from pathlib import Path

import pytest
from tests.hub.publications import shared_publication, write_manifest_anew

from transformers_llava.hub.cards.merge import merge_card
from transformers_llava.hub.verification.verify import verify


WORDS = {  # today: before
    "# License": "# Licence",
    "declared licenses": "declared licences",
    "llava:begin license ": "llava:begin licence ",
    "llava:end license ": "llava:end licence ",
    "| license |": "| licence |",
    "| images |": "| pictures |",
    "image.png": "picture.png",
}


def spell_as_before(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        for now, before in WORDS.items():
            text = text.replace(now, before)
    else:
        text = re.sub(r'(?m)^(\s*(?:- )?"?(?:images_)?)license(?=(?:_url|_revision)?"?:)', r"\1licence", text)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def before(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    folder = shutil.copytree(shared_publication(tmp_path_factory.getbasetemp()), tmp_path / "before")
    for name in ("run.json", "LICENSE.md", "README.md"):
        spell_as_before(folder / name)
    for path in (folder / "recipe").glob("*.mixture*"):
        spell_as_before(path)
    write_manifest_anew(folder)
    return folder


def test_a_publication_of_before_verifies(before: Path) -> None:
    assert "licence: CC-BY-4.0" in (before / "recipe/2_instruct.mixture.yaml").read_text()
    assert "## Licence\n" in (before / "README.md").read_text()
    report = verify(before)
    assert report.passed, report


def test_another_license_is_still_found(before: Path) -> None:
    path = before / "recipe/2_instruct.mixture.yaml"
    path.write_text(path.read_text().replace("licence: CC-BY-4.0", "licence: MIT"))
    text = (before / "LICENSE.md").read_text()
    (before / "LICENSE.md").write_text(text.replace("licence", "license", 1).replace("CC-BY-4.0", "MIT"))
    write_manifest_anew(before)
    found = {check.name: check.message for check in verify(before).failed}
    assert "license: run.json says 'CC-BY-4.0', the file says 'MIT'" in found["recipe/2_instruct.mixture.yaml"]
    assert "MIT" in found["LICENSE.md"]


def test_the_part_of_a_card_that_had_the_old_name_is_renewed_where_it_stands() -> None:
    old = "---\n---\n\n<!-- llava:begin licence -->\nold\n<!-- llava:end licence -->\n\nMy own words.\n"
    new = "---\n---\n\n<!-- llava:begin license -->\nnew\n<!-- llava:end license -->\n"
    assert merge_card(old, new).endswith(
        "<!-- llava:begin license -->\nnew\n<!-- llava:end license -->\n\nMy own words.\n"
    )
