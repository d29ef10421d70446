"""Published mixtures: parts that add up, counts that are compared with the file, licenses that are stated."""

from pathlib import Path

import pytest

from transformers_llava.data.mixture.config import SourceConfig
from transformers_llava.data.mixture.mixture_file import read_mixture_file
from transformers_llava.data.mixture.published_parts import (
    NO_IMAGE,
    Download,
    SourcePart,
    compare_with_published,
    published_counts,
)
from transformers_llava.data.mixture.source import load_source
from transformers_llava.packaged import list_packaged


DOCS = Path(__file__).parents[3] / "docs" / "reference"


def only_source(name: str) -> SourceConfig:
    (source,) = read_mixture_file(name).sources
    return source


def test_the_665k_mixture_adds_up_to_the_published_counts():
    parts = only_source("llava-v1.5-mix665k").parts
    assert len(parts) == 10
    assert dict(published_counts(parts)) == {
        "coco": 364_100, "gqa": 72_140, "ocr_vqa": 80_000, "textvqa": 21_953, "vg": 86_417, NO_IMAGE: 40_688,
    }  # fmt: skip
    assert published_counts(parts).total() == 665_298


def test_the_558k_mixture_has_its_published_count():
    assert published_counts(only_source("llava-v1.5-pretrain-558k").parts).total() == 558_128


def test_every_packaged_mixture_loads_and_states_license_evidence_and_provenance():
    assert list_packaged("mixture") == ["demo", "llava-v1.5-mix665k", "llava-v1.5-pretrain-558k"]
    for name in list_packaged("mixture"):
        for source in read_mixture_file(name).sources:
            for stated in (source, *source.parts):
                assert stated.license, stated
                assert str(stated.license_url).startswith("https://"), stated
                assert stated.provenance not in (None, "unknown"), stated
                assert (stated.teacher is None) == (stated.provenance != "model"), stated
                assert (stated.teacher_terms is None) == (stated.teacher is None), stated
            for download in source.downloads:
                assert not Path(download.target).is_absolute()
                assert "://" in download.url


@pytest.mark.parametrize("name", ["llava-v1.5-mix665k", "llava-v1.5-pretrain-558k"])
def test_the_page_of_a_published_mixture_has_every_part_and_the_sum(name: str):
    page = (DOCS / f"mixture-{name}.md").read_text()
    parts = only_source(name).parts
    for part in parts:
        assert f"| {part.name} | {part.num_examples:,} | {part.image_folder or '–'} | {part.license} |" in page, part
    assert f"| **sum** | **{published_counts(parts).total():,}** |" in page


PARTS = [SourcePart("a", 2, "coco"), SourcePart("b", 1, "coco"), SourcePart("c", 1, "vg"), SourcePart("d", 1)]


def record(number: int, image: str | None = None) -> dict:
    question = "<image>\nQ" if image else "Q"
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "A"}]
    return {"id": str(number), "conversations": turns, **({"image": image} if image else {})}


def differences(path: Path) -> list[str]:
    source = SourceConfig("s", str(path), parts=PARTS)
    _, report = load_source(source)
    return compare_with_published("s", report.num_read, report.folders, source.parts)


def test_a_file_as_published_has_no_differences_even_if_images_are_missing(write_source, png):
    images = ["coco/1/x.png", "coco/2/gone.png", "coco/1/x.png", "vg/y.png"]
    records = [record(n, image) for n, image in enumerate(images)] + [record(9)]
    assert differences(write_source(records, {"coco/1/x.png": png(), "vg/y.png": png()})) == []


def test_folders_with_other_counts_are_named(write_source, png):
    records = [record(n, "coco/x.png") for n in range(3)] + [record(3, "x.png"), record(4), record(5)]
    assert differences(write_source(records, {"coco/x.png": png()})) == [
        "source 's' has 6 records; 5 were published",
        "source 's' has 2 records without an image; 1 were published",
        "source 's' has 1 records with images in '.'; 0 were published",
        "source 's' has 0 records with images in 'vg'; 1 were published",
    ]


def test_images_in_an_archive_count_by_their_folder_too(write_source, png, tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("coco/x.png", "vg/y.png"):
            archive.writestr(name, png())
    path = write_source([record(n, image) for n, image in enumerate(["coco/x.png"] * 3 + ["vg/y.png", None])])
    source = SourceConfig("s", str(path), image_root=str(tmp_path / "all.zip"), parts=PARTS)
    _, report = load_source(source)
    assert dict(report.folders) == {"coco": 3, "vg": 1, NO_IMAGE: 1}


@pytest.mark.parametrize("field", ["parts", "downloads"])
def test_a_part_or_download_with_a_wrong_field_is_refused(field):
    with pytest.raises(ValueError, match=r"source 's' has the (part|download) .* known are"):
        SourceConfig("s", "x.json", **{field: [{"name": "a", "count": 1}]})


def test_a_download_is_here_when_its_target_is_and_holds_something(tmp_path: Path):
    download = Download("a", "https://x", "a/b")
    assert not download.is_here(tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert not download.is_here(tmp_path)
    (tmp_path / "a" / "b" / "c").write_text("")
    assert download.is_here(tmp_path)
