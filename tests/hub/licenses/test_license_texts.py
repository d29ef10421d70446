"""Texts of licenses travel with a publication where they have to, and what is missing is said."""

import json
from pathlib import Path

import pytest
from tests.hub.two_stages import shared_two_stages

from transformers_llava.artifacts.card_facts import CardFacts
from transformers_llava.artifacts.run_record.record_file import read_checked_record
from transformers_llava.artifacts.run_record.run_stages import RunRecord
from transformers_llava.hub.licenses import texts as license_texts
from transformers_llava.hub.licenses.statement import LicenseStatement, compose_licenses
from transformers_llava.hub.licenses.texts import check_license_texts, copy_license_texts, write_packaged_texts
from transformers_llava.hub.publication.documents import check_documents
from transformers_llava.hub.publication.stage import stage_publication


CLIP, VICUNA = "openai/clip-vit-large-patch14-336", "lmsys/vicuna-7b-v1.5"


def make_run(*bases: tuple[str, str, str]) -> RunRecord:
    models = [
        {"role": role, "name": name, "origin": origin, "revision": "0" * 40 if origin == "hub" else None}
        for role, name, origin in bases
    ]
    return RunRecord.from_dict({"stage": "align", "base_models": models, "mixture": {"sources": []}})


def compose(run: RunRecord, **licenses: str) -> LicenseStatement:
    return compose_licenses(run, None, CardFacts(licenses={name: {"license": one} for name, one in licenses.items()}))


def make_checkpoint(folder: Path, **places: Path) -> Path:
    note = folder / ".cache/huggingface/places.json"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"sources": {}, "base_models": {role: str(place) for role, place in places.items()}}))
    return folder


def texts_in(folder: Path) -> list[str]:
    root = folder / "licenses"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_packaged_texts_are_put_there_with_the_line_of_their_makers(tmp_path: Path) -> None:
    run = make_run(("language_model", "mistralai/Mistral-7B-v0.1", "hub"), ("vision_tower", CLIP, "hub"))
    statement = compose(run)
    write_packaged_texts(statement.parts, tmp_path)
    assert texts_in(tmp_path) == [
        "mistralai--Mistral-7B-v0.1/LICENSE.txt",
        "openai--clip-vit-large-patch14-336/LICENSE.txt",
    ]
    clip = (tmp_path / "licenses/openai--clip-vit-large-patch14-336/LICENSE.txt").read_text()
    assert clip.startswith("Copyright (c) 2021 OpenAI\n\nPermission is hereby granted")
    apache = (tmp_path / "licenses/mistralai--Mistral-7B-v0.1/LICENSE.txt").read_text()
    assert "Version 2.0, January 2004" in apache
    assert "END OF TERMS AND CONDITIONS" in apache
    assert check_license_texts(statement.parts, tmp_path).missing == []


def test_a_text_that_we_have_not_is_missing_and_said_in_the_license_file(tmp_path: Path) -> None:
    statement = compose(make_run(("language_model", VICUNA, "hub"), ("vision_tower", CLIP, "hub")))
    write_packaged_texts(statement.parts, tmp_path)
    report = check_license_texts(statement.parts, tmp_path)
    (missing,) = report.missing
    assert "the text of LLAMA 2 Community License for lmsys/vicuna-7b-v1.5 is not in this publication" in missing
    assert "licenses/lmsys--vicuna-7b-v1.5/LICENSE.txt" in missing
    statement.write(tmp_path, report)
    written = (tmp_path / "LICENSE.md").read_text()
    assert f"- **Missing:** {missing}" in written
    assert "(licenses/openai--clip-vit-large-patch14-336/LICENSE.txt)" in written


def test_a_text_without_the_line_of_its_maker_is_half_of_it(tmp_path: Path) -> None:
    statement = compose(make_run(("language_model", "me/x", "hub")), **{"me/x": "MIT"})
    write_packaged_texts(statement.parts, tmp_path)
    assert texts_in(tmp_path) == ["MIT.txt"]
    (missing,) = check_license_texts(statement.parts, tmp_path).missing
    assert missing.startswith("the copyright line of MIT for me/x is not in this publication")


def test_a_license_without_a_rule_asks_for_its_text_and_an_unknown_one_for_nothing(tmp_path: Path) -> None:
    run = make_run(("language_model", "me/x", "hub"), ("vision_tower", "me/y", "hub"))
    (missing,) = check_license_texts(compose(run, **{"me/x": "GPL-3.0-only"}).parts, tmp_path).missing
    assert "the text of GPL-3.0-only for me/x" in missing


def test_files_beside_a_base_model_are_copied_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "vicuna"
    base.mkdir()
    for name in ("LICENSE", "NOTICE.txt", "USE_POLICY.md", "config.json", "LICENSE.pdf", "licensed_data.bin"):
        (base / name).write_text(f"{name} of Vicuna")
    (base / "LICENSE-long.txt").write_text("x" * 101)
    monkeypatch.setattr(license_texts, "MAX_LICENSE_FILE_BYTES", 100)
    run = make_run(("language_model", "vicuna", "folder"))
    statement = compose(run, vicuna="llama2")
    checkpoint = make_checkpoint(tmp_path / "checkpoint", language_model=base)
    skipped = copy_license_texts(run, statement.parts, checkpoint, tmp_path / "publication")
    assert texts_in(tmp_path / "publication") == ["vicuna/LICENSE", "vicuna/NOTICE.txt", "vicuna/USE_POLICY.md"]
    assert skipped == [
        "LICENSE-long.txt of vicuna was not copied to licenses/: it has 101 bytes",
        "LICENSE.pdf of vicuna was not copied to licenses/: it is no text",
        "licensed_data.bin of vicuna was not copied to licenses/: it is no text",
    ]
    assert check_license_texts(statement.parts, tmp_path / "publication").missing == []


def test_what_was_added_by_hand_goes_along(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    text = checkpoint / "licenses/lmsys--vicuna-7b-v1.5/LICENSE.txt"
    text.parent.mkdir(parents=True)
    text.write_text("LLAMA 2 COMMUNITY LICENSE AGREEMENT")
    run = make_run(("language_model", VICUNA, "hub"))
    statement = compose(run)
    assert copy_license_texts(run, statement.parts, checkpoint, tmp_path / "publication") == []
    report = check_license_texts(statement.parts, tmp_path / "publication")
    assert (report.present, report.missing) == (["licenses/lmsys--vicuna-7b-v1.5/LICENSE.txt"], [])


def test_a_name_of_a_base_model_stays_in_the_folder(tmp_path: Path) -> None:
    statement = compose(make_run(("language_model", "../../x", "folder")), **{"../../x": "Apache-2.0"})
    write_packaged_texts(statement.parts, tmp_path / "publication")
    assert texts_in(tmp_path / "publication") == ["x/LICENSE.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["publication"]


def test_the_packaged_texts_are_whole() -> None:
    folder = Path(license_texts.__file__).parent / "license_texts"
    last_words = {
        "Apache-2.0": "governing permissions and limitations under the License.",
        "MIT": "OTHER DEALINGS IN THE SOFTWARE.",
        "BSD-3-Clause": "EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.",
    }
    assert {path.stem for path in folder.iterdir()} == set(last_words)
    for name, words in last_words.items():
        assert " ".join((folder / f"{name}.txt").read_text().split()).endswith(words), name


def test_a_publication_holds_them_and_the_plan_says_what_is_missing_and_unread(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    checkpoint = shared_two_stages(tmp_path_factory.getbasetemp())
    facts = tmp_path / "card.yaml"
    facts.write_text("licenses: {language_model: Apache-2.0, vision_tower: MIT}")
    folder = tmp_path / "publication"
    publication = stage_publication(checkpoint, "me/x", folder, facts=facts, allow_incomplete=True)
    assert texts_in(folder) == ["MIT.txt", "language_model/LICENSE.txt"]
    assert {"licenses/MIT.txt", "licenses/language_model/LICENSE.txt"} <= publication.manifest.files.keys()
    notes = "\n".join(publication.notes)
    assert "licenses: the copyright line of MIT for vision_tower is not in this publication" in notes
    assert "not read by the scan for secrets: values of tensors" in notes
    assert publication.findings == []
    found = {
        name: status for name, status, _ in check_documents(folder, read_checked_record(folder), publication.manifest)
    }
    assert found["LICENSE.md"] == "ok"
