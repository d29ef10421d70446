"""Images: sizes without decoding, upright RGB, and a word for everything that can be wrong with a file."""

import io
import pickle
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from transformers_llava.data.images.opening import check_image, image_size, open_image
from transformers_llava.data.images.paths import resolve_image
from transformers_llava.data.schema import RecordError


def sample_image(width: int = 30, height: int = 20, mode: str = "RGB") -> Image.Image:
    return Image.radial_gradient("L").resize((width, height)).convert(mode)


def encoded(format: str, image: Image.Image | None = None, **kwargs) -> bytes:
    stream = io.BytesIO()
    (image or sample_image()).save(stream, format, **kwargs)
    return stream.getvalue()


def at(path: Path) -> dict:
    return {"bytes": None, "path": str(path)}


def reason(action, *args) -> str:
    with pytest.raises(RecordError) as caught:
        action(*args)
    return caught.value.reason


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str):
    format = "JPEG" if mode == "CMYK" else "PNG"
    image = open_image({"bytes": encoded(format, sample_image(mode=mode)), "path": None})
    assert (image.mode, image.size) == ("RGB", (30, 20))


def rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # by 90 degrees
    return exif


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_size_and_image_follow_the_exif_rotation(format: str):
    reference = {"bytes": encoded(format, exif=rotated()), "path": None}
    assert image_size(reference) == open_image(reference).size == (20, 30)


def test_the_rotation_of_a_png_may_stand_behind_its_pixels():
    data = encoded("PNG")
    end = data.index(b"IEND") - 4
    body = b"eXIf" + rotated().tobytes()[6:]
    chunk = len(body[4:]).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    reference = {"bytes": data[:end] + chunk + data[end:], "path": None}
    assert image_size(reference) == open_image(reference).size == (20, 30)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_the_size_is_read_without_decoding(format: str):
    truncated = {"bytes": encoded(format, sample_image(200, 100))[:700], "path": None}
    assert image_size(truncated) == (200, 100)
    assert reason(open_image, truncated) == "truncated_image"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_image_is_found(format: str):
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    data = encoded(format, noise)
    assert open_image({"bytes": data, "path": None}).size == (64, 64)
    assert reason(open_image, {"bytes": data[: len(data) // 2], "path": None}) in (
        "truncated_image",
        "unreadable_image",
    )


def test_what_is_no_image_is_unreadable(tmp_path: Path):
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    (tmp_path / "empty.jpg").write_bytes(b"")
    assert reason(open_image, at(tmp_path / "page.jpg")) == "unreadable_image"
    assert reason(open_image, at(tmp_path / "empty.jpg")) == "unreadable_image"


def test_a_missing_file_a_folder_and_an_empty_reference_are_missing(tmp_path: Path):
    for level in ("decode", "header", "none"):
        assert reason(check_image, at(tmp_path / "no.jpg"), level) == "missing_image"
        assert reason(check_image, at(tmp_path), level) == "missing_image"
    assert reason(open_image, {"bytes": None, "path": None}) == "missing_image"


def test_a_decompression_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    data = encoded("PNG")  # 600 pixels: over the limit, where Pillow alone would only warn
    with pytest.warns(Image.DecompressionBombWarning):
        assert reason(image_size, {"bytes": data, "path": None}) == "decompression_bomb"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)  # over twice the limit Pillow raises
    assert reason(open_image, {"bytes": data, "path": None}) == "decompression_bomb"


def test_levels_of_looking(tmp_path: Path):
    data = encoded("JPEG", sample_image(200, 100))
    (tmp_path / "good.jpg").write_bytes(data)
    (tmp_path / "cut.jpg").write_bytes(data[:700])
    assert check_image(at(tmp_path / "good.jpg"), "header") is None
    assert check_image(at(tmp_path / "cut.jpg"), "header") is None
    assert reason(check_image, at(tmp_path / "cut.jpg"), "decode") == "truncated_image"
    first = check_image(at(tmp_path / "good.jpg"), "decode")
    assert first == check_image({"bytes": data, "path": None}, "decode") != None  # noqa: E711


@pytest.mark.parametrize("name", ["a.jpg", "x/../a.jpg", "./a.jpg"])
def test_a_path_inside_its_root_is_normalised(name: str):
    assert resolve_image(name, Path("root"))["path"] == "root/a.jpg"
    assert resolve_image("/data/root/a.jpg", Path("/data/root"))["path"] == "/data/root/a.jpg"


@pytest.mark.parametrize("name", ["../a.jpg", "..", ".", "/data/root2/a.jpg", "/data/root", "x/../../root2/a.jpg"])
def test_a_path_cannot_leave_its_root(name: str):
    assert reason(resolve_image, name, Path("/data/root")) == "path_escapes_root"
    if not name.startswith("/"):
        assert reason(resolve_image, name, Path(".")) == "path_escapes_root"


def test_the_current_folder_as_a_root():
    assert resolve_image("a/b.jpg", Path("."))["path"] == "a/b.jpg"
    assert reason(resolve_image, "/a.jpg", Path(".")) == "path_escapes_root"


@pytest.fixture(params=["zip", "tar"])
def archive(request, tmp_path: Path) -> Path:
    path = tmp_path / f"images.{request.param}"
    if request.param == "zip":
        with zipfile.ZipFile(path, "w") as target:
            target.writestr("a/1.png", encoded("PNG"))
    else:
        with tarfile.open(path, "w") as target:
            info = tarfile.TarInfo("./a/1.png")
            info.size = len(encoded("PNG"))
            target.addfile(info, io.BytesIO(encoded("PNG")))
    return path


def test_images_are_read_out_of_archives_without_unpacking(archive: Path):
    reference = resolve_image("a/1.png", archive)
    assert reference["path"] == f"{archive.suffix[1:]}://a/1.png::{archive}"
    assert image_size(reference) == open_image(reference).size == (30, 20)
    assert check_image(reference, "none") is None
    assert reason(open_image, resolve_image("a/2.png", archive)) == "missing_image"
    assert reason(resolve_image, "../1.png", archive) == "path_escapes_root"
    assert reason(resolve_image, "/1.png", archive) == "path_escapes_root"
    assert sorted(file.name for file in archive.parent.iterdir()) == [archive.name]


def test_a_broken_archive_makes_its_images_missing(tmp_path: Path):
    for name in ("a.zip", "a.tar"):
        (tmp_path / name).write_bytes(b"no archive" * 100)
        assert reason(open_image, resolve_image("1.png", tmp_path / name)) == "missing_image"


def test_a_record_error_survives_the_way_between_processes():
    error = RecordError("missing_image", "gone.", record_id="s/1")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.reason, copy.record_id, str(copy)) == ("missing_image", "s/1", "record 's/1': gone.")
