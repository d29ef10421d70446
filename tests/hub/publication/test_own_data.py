"""`--self_contained` sends what the records name, from folders and archives of every kind, and nothing beside."""

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from PIL import Image
from tests.hub.publications import whole_record

from transformers_llava.artifacts.local_paths import LOCAL_PATHS_NAME
from transformers_llava.artifacts.run_record.run_stages import RunRecord
from transformers_llava.artifacts.untrusted import DocumentError
from transformers_llava.data.mixture.config import MixtureConfig
from transformers_llava.data.mixture.lock import make_lock
from transformers_llava.data.mixture.mixture_building import build_mixture
from transformers_llava.hub.publication.bundle import copy_own_parts
from transformers_llava.hub.publication.bundled_data import MissingPartError
from transformers_llava.hub.recipe_folder import write_recipe_folder
from transformers_llava.hub.verification.checks.data_and_bases import check_parts


def image_bytes(color: str, format: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), color).save(stream, format)
    return stream.getvalue()


def record(name: str, image: str | None) -> dict[str, Any]:
    turns = [{"from": "human", "value": "<image>\nWhat?" if image else "What?"}, {"from": "gpt", "value": f"{name}."}]
    return {"id": name, "conversations": turns, **({"image": image} if image else {})}


def home(folder: Path) -> Path:
    """A user's folder: four images that records name, one of them no image, and what nobody else should see."""
    files = {
        "used.png": image_bytes("red"),
        "sub/used.jfif": image_bytes("green", "JPEG"),
        "no_suffix": image_bytes("blue"),
        "named.key": b"-----this is no image-----",
        "Photos/2025/passport.jpg": image_bytes("black", "JPEG"),
        "held_out.png": image_bytes("white"),
        ".env": b"PASSWORD=1",
        ".cache/x.png": image_bytes("pink"),
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    named = ["used.png", "sub/../used.png", "sub/used.jfif", "no_suffix", "named.key", "gone.png", None]
    (folder / "train.json").write_text(json.dumps([record(f"r{i}", image) for i, image in enumerate(named)]))
    return folder


SENT = {"used.png", "sub/used.jfif", "no_suffix", "named.key"}


def packed(folder: Path, suffix: str) -> Path:
    path = folder.with_suffix(suffix)
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, file.relative_to(folder).as_posix())
    else:
        with tarfile.open(path, "w") as archive:
            for file in files:
                archive.add(file, file.relative_to(folder).as_posix())
    return path


def stage(recorded: list[dict[str, Any]], here: list[dict[str, str]], **more: Any) -> tuple[dict, dict]:
    """A run record of one stage and its note of local paths; the lock is made from what lies on this machine."""
    config = MixtureConfig([{**source, **places} for source, places in zip(recorded, here, strict=True)])
    _, report = build_mixture(config)
    mixture = {**config.to_dict(), "sources": recorded}
    run = {
        **whole_record(),
        "stage": "align",
        "base_models": [{"role": "vision_tower", "name": "o/n", "origin": "hub", "revision": None, "digest": None}],
        "mixture": mixture,
        "mixture_lock": make_lock(config, report),
        **more,
    }
    return run, {
        "sources": {source["name"]: places for source, places in zip(recorded, here, strict=True)},
        "base_models": {},
    }


def publish(folder: Path, *stages: tuple[dict, dict]) -> tuple[list[str], list[str], list[tuple[str, str, str]]]:
    """Names below `recipe/` that were copied, the plan's notes, and what L2 says of the data."""
    runs, places = [run for run, _ in stages], [noted for _, noted in stages]
    run, noted = {**runs[-1], "previous": runs[:-1]}, {**places[-1], "previous": places[:-1]}
    checkpoint, publication, notes = folder / "checkpoint", folder / "publication", []
    (checkpoint / LOCAL_PATHS_NAME).parent.mkdir(parents=True)
    (checkpoint / LOCAL_PATHS_NAME).write_text(json.dumps(noted))
    publication.mkdir()
    record = RunRecord.from_dict(run)
    copied = copy_own_parts(record, checkpoint, publication, notes)
    write_recipe_folder(record, publication)
    (publication / "run.json").write_text(json.dumps(run))
    found = [
        found
        for found in check_parts(publication, record, None, {}, allow_dataset_folders=True)
        if found[0].startswith("data")
    ]
    return [path.relative_to(publication / "recipe").as_posix() for path in copied], notes, found


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFORMERS_LLAVA_CACHE", str(tmp_path / "cache"))


def test_a_folder_gives_exactly_the_named_images_whatever_their_suffix(tmp_path: Path) -> None:
    here = home(tmp_path / "home")
    recorded = {"name": "mine", "path": "mine/train.json"}
    copied, notes, found = publish(tmp_path, stage([recorded], [{"path": str(here / "train.json")}]))
    assert copied == ["data/mine/train.json", "data/mine/images.zip"]
    with zipfile.ZipFile(tmp_path / "publication/recipe/data/mine/images.zip") as archive:
        assert set(archive.namelist()) == SENT
        assert archive.read("sub/used.jfif") == (here / "sub/used.jfif").read_bytes()
        assert archive.read("named.key") == b""
    size = sum((here / name).stat().st_size for name in SENT - {"named.key"})
    assert f"4 images, {size:,} bytes; 1 named images are not there; 1 named files are no images" in notes[0]
    assert notes[0].endswith(f"from {here / 'train.json'}, {here}")
    assert [status for _, status, _ in found] == ["ok"], found


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_an_archive_becomes_one_with_the_named_members(tmp_path: Path, suffix: str) -> None:
    here = packed(home(tmp_path / "home"), suffix)
    recorded = {"name": "mine", "path": "train.json", "image_root": f"home{suffix}"}
    places = {"path": str(tmp_path / "home/train.json"), "image_root": str(here)}
    copied, _, found = publish(tmp_path, stage([recorded], [places]))
    assert copied == ["data/train.json", f"data/home{suffix}"]
    path = tmp_path / f"publication/recipe/data/home{suffix}"
    with zipfile.ZipFile(path) if suffix == ".zip" else tarfile.open(path) as archive:
        assert set(archive.namelist() if suffix == ".zip" else archive.getnames()) == SENT
    assert [status for _, status, _ in found] == ["ok"], found


def test_sources_and_stages_share_an_archive_and_none_loses_an_image(tmp_path: Path) -> None:
    here = home(tmp_path / "home")
    for name, image in (("a", "used.png"), ("b", "no_suffix"), ("c", "sub/used.jfif")):
        (here / f"{name}.json").write_text(json.dumps([record(name, image)]))
    sources = {
        name: (
            {"name": name, "path": f"{name}.json", "image_root": "home"},
            {"path": str(here / f"{name}.json"), "image_root": str(here)},
        )
        for name in "abc"
    }
    first = stage([sources["a"][0], sources["b"][0]], [sources["a"][1], sources["b"][1]])
    copied, notes, found = publish(tmp_path, first, stage([sources["c"][0]], [sources["c"][1]]))
    assert copied == ["data/a.json", "data/b.json", "data/c.json", "data/home.zip"]
    with zipfile.ZipFile(tmp_path / "publication/recipe/data/home.zip") as archive:
        assert set(archive.namelist()) == {"used.png", "no_suffix", "sub/used.jfif"}
    assert len(notes) == 3
    assert [status for _, status, _ in found] == ["ok", "ok"], found


def test_of_a_data_set_in_a_folder_go_the_files_that_hold_its_split(tmp_path: Path) -> None:
    folder = home(tmp_path / "home")
    rows = [record(f"r{i}", "used.png") for i in range(3)]
    Dataset.from_list(rows).save_to_disk(folder / "saved")
    (folder / "plain").mkdir()
    (folder / "plain/train.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (folder / "plain/test.jsonl").write_text(json.dumps(record("held_out", "held_out.png")))
    for name in ("saved", "plain"):
        (folder / name / ".git").mkdir()
        (folder / name / ".git/config").write_text("url = https://me:secret@host")
        (folder / name / "notes.txt").write_text("private")
    recorded = [{"name": name, "path": f"{name}/data", "image_root": "home"} for name in ("saved", "plain")]
    here = [{"path": str(folder / name), "image_root": str(folder)} for name in ("saved", "plain")]
    copied, _, found = publish(tmp_path, stage(recorded, here))
    assert copied == [
        "data/plain/data/train.jsonl",
        "data/saved/data/data-00000-of-00001.arrow",
        "data/saved/data/dataset_info.json",
        "data/saved/data/state.json",
        "data/home.zip",
    ]
    assert [status for _, status, _ in found] == ["ok"], found


def test_nothing_is_written_outside_and_no_file_takes_the_place_of_another(tmp_path: Path) -> None:
    here = home(tmp_path / "home")
    (here / "other.json").write_text(json.dumps([record("other", "held_out.png")]))
    places = [{"path": str(here / "train.json")}]
    for path in ("../../shared/train.json", "/shared/train.json", "a/../../../x.json"):
        with pytest.raises(DocumentError, match="not a path inside the folder"):
            publish(tmp_path / "a", stage([{"name": "mine", "path": path}], places))
        assert [file.name for file in (tmp_path / "a/publication").rglob("*")] in ([], ["recipe"])
        (tmp_path / "a").rename(tmp_path / path.replace("/", "_"))
    with pytest.raises(MissingPartError, match=r"the hidden folder or file '\.cache'"):
        publish(tmp_path / "b", stage([{"name": "mine", "path": ".cache/train.json"}], places))
    first = stage([{"name": "mine", "path": "mine/train.json"}], places)
    other = stage([{"name": "mine", "path": "mine/train.json"}], [{"path": str(here / "other.json")}])
    with pytest.raises(MissingPartError, match=r"other.json' are different files, and both are recorded as 'data/min"):
        publish(tmp_path / "c", first, other)


def test_records_that_could_not_be_read_elsewhere_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    here = home(tmp_path / "home")
    (here / "train.json").write_text(json.dumps([record("r0", str(here / "used.png"))]))
    with pytest.raises(
        MissingPartError, match=r"source 'mine' of stage 1_align reads differently .*path_escapes_root"
    ):
        publish(tmp_path, stage([{"name": "mine", "path": "train.json"}], [{"path": str(here / "train.json")}]))


def test_of_a_base_model_go_its_own_files_and_only_if_it_is_the_recorded_one(tmp_path: Path) -> None:
    from transformers_llava.artifacts.digests.file_digests import weights_digest

    here, tower = home(tmp_path / "home"), tmp_path / "tower"
    tower.mkdir()
    for name in ("model.safetensors", "config.json", "LICENSE.txt", ".env", "optimizer.pt", "notes.md"):
        (tower / name).write_text(name)
    base = {"role": "vision_tower", "name": "tower", "origin": "folder", "revision": None}
    bases = [{**base, "digest": weights_digest(tower)}]
    run, places = stage([{"name": "m", "path": "m.json"}], [{"path": str(here / "train.json")}], base_models=bases)
    places["base_models"]["vision_tower"] = str(tower)
    copied, notes, _ = publish(tmp_path / "a", (run, places))
    names = [name for name in copied if name.startswith("bases")]
    assert names == [f"bases/vision_tower/{name}" for name in ("LICENSE.txt", "config.json", "model.safetensors")]
    assert notes[-1].endswith("stays here: .env, notes.md, optimizer.pt")
    (tower / "model.safetensors").write_text("another one")
    with pytest.raises(MissingPartError, match="has other weights"):
        publish(tmp_path / "b", (run, places))


@pytest.mark.parametrize("text", ["[]", "{", '{"sources": 5, "base_models": {}}', '{"sources": {"a": []}}', "null"])
def test_a_note_of_local_paths_that_is_none_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCAL_PATHS_NAME).parent.mkdir(parents=True)
    (tmp_path / LOCAL_PATHS_NAME).write_text(text)
    with pytest.raises(DocumentError, match=r"places\.json"):
        copy_own_parts(RunRecord.from_dict({"mixture": {"sources": []}}), tmp_path, tmp_path / "out")
