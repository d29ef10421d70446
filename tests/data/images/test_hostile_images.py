"""Images that somebody else made: other formats, bombs, wide ranges, and archives with damaged members."""

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transformers_llava.artifacts import limits
from transformers_llava.data.images import archives, decoding
from transformers_llava.data.images import opening as images
from transformers_llava.data.images.opening import check_image, image_size, open_image
from transformers_llava.data.images.paths import resolve_image
from transformers_llava.data.mixture.config import SourceConfig
from transformers_llava.data.mixture.source import image_root_of
from transformers_llava.data.schema import RecordError
from transformers_llava.modeling.images.image_opening import IMAGE_FORMATS, available_formats


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


def encoded(format: str, image: Image.Image, **kwargs) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **kwargs)
    return stream.getvalue()


def embedded(data: bytes) -> dict:
    return {"bytes": data, "path": None}


def reason(action, *args) -> str:
    with pytest.raises(RecordError) as caught:
        action(*args)
    return caught.value.reason


def gradient(bits: int = 16) -> np.ndarray:
    return (np.arange(256, dtype=np.uint32)[None, :].repeat(3, 0) * (2**bits // 256)).astype(f"uint{bits}")


def test_postscript_never_reaches_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    gs = tmp_path / "bin" / "gs"
    gs.write_text(f"#!/bin/sh\necho run >> {tmp_path / 'ran'}\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # look for it again
    (tmp_path / "cat.jpg").write_bytes(POSTSCRIPT)
    for reference in ({"bytes": None, "path": str(tmp_path / "cat.jpg")}, embedded(POSTSCRIPT)):
        assert reason(check_image, reference, "decode") == "unreadable_image"
        assert reason(image_size, reference) == "unreadable_image"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("format", ["PCX", "SGI", "TGA", "ICO", "PDF", "IM", "SPIDER"])
def test_rare_formats_are_not_opened(format: str) -> None:
    image = Image.new("F" if format == "SPIDER" else "RGB", (16, 16))
    assert reason(open_image, embedded(encoded(format, image))) == "unreadable_image"


@pytest.mark.parametrize("format", IMAGE_FORMATS)
def test_the_formats_of_the_list_are_opened(format: str) -> None:
    if format == "AVIF" and format not in available_formats():
        pytest.skip("this Pillow has no AVIF")
    assert open_image(embedded(encoded(format, Image.new("RGB", (16, 12))))).size == (16, 12)


def test_the_two_views_of_a_stereo_camera_are_opened_as_their_first() -> None:
    data = encoded("MPO", Image.new("RGB", (16, 12)), save_all=True, append_images=[Image.new("RGB", (16, 12))])
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "MPO"
    assert open_image(embedded(data)).size == (16, 12)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_content(format: str) -> None:
    data = encoded(format, Image.fromarray(gradient()))
    assert np.asarray(Image.open(io.BytesIO(data))).max() == 255 * 256  # it is stored with 16 bits
    pixels = np.asarray(open_image(embedded(data)))
    assert pixels.shape == (3, 256, 3)
    assert (pixels == np.arange(256)[None, :, None]).all()


def test_16_bit_grey_is_turned_upright_and_read_from_big_endian_files() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = open_image(embedded(encoded("PNG", Image.fromarray(gradient()), exif=exif)))
    assert turned.size == (3, 256)
    assert np.asarray(turned)[:, 0, 0].tolist() == list(range(256))
    big = b"P5 256 1 65535\n" + gradient()[0].astype(">u2").tobytes()
    assert np.asarray(open_image(embedded(big)))[0, :, 0].tolist() == list(range(256))
    tiff = encoded("TIFF", Image.fromarray(gradient()[0:1].astype(">u2")))
    assert np.asarray(open_image(embedded(tiff)))[0, :, 0].tolist() == list(range(256))


def test_16_bit_colour_keeps_its_content() -> None:
    row = np.stack([gradient()[0], gradient()[0][::-1], gradient()[0] // 2], axis=-1)  # (256, 3)
    lines = b"\0" + row.astype(">u2").tobytes()
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 256, 1, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines)),
        (b"IEND", b""),
    ]
    pixels = np.asarray(open_image(embedded(png_of(chunks))))[0]
    assert (pixels == row // 256).all()


@pytest.mark.parametrize(("array", "mode"), [(gradient(32).astype("int32"), "I"), (gradient() / 65535, "F")])
def test_numbers_without_a_known_white_are_refused_by_name(array: np.ndarray, mode: str) -> None:
    data = encoded("TIFF", Image.fromarray(array.astype("int32" if mode == "I" else "float32")))
    for action in (open_image, image_size):
        with pytest.raises(RecordError, match=rf"mode {mode}\).*Convert it to 8 or 16 bits") as caught:
            action(embedded(data))
        assert caught.value.reason == "unsupported_image"


def png_of(chunks: list[tuple[bytes, bytes]]) -> bytes:
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def with_chunk(kind: bytes, data: bytes) -> bytes:
    plain = encoded("PNG", Image.new("RGB", (8, 8)))
    return plain[:33] + png_of([(kind, data)])[8:] + plain[33:]  # behind IHDR


def test_compressed_texts_and_profiles_that_unfold_are_bombs() -> None:
    bomb = zlib.compress(bytes(32 << 20))
    for chunk in (with_chunk(b"zTXt", b"k\0\0" + bomb), with_chunk(b"iTXt", b"k\0\1\0\0\0" + bomb)):
        assert reason(open_image, embedded(chunk)) == "decompression_bomb"
    assert reason(open_image, embedded(with_chunk(b"iCCP", b"k\0\0" + bomb))) == "decompression_bomb"


def test_a_png_of_countless_chunks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded("PNG", Image.new("RGB", (8, 8)))
    many = data[:33] + png_of([(b"prIv", b"")] * 50)[8:] + data[33:]
    assert open_image(embedded(many)).size == (8, 8)
    monkeypatch.setattr(decoding, "MAX_PNG_CHUNKS", 50)
    for action in (open_image, image_size):
        assert reason(action, embedded(many)) == "decompression_bomb"


def test_an_animation_is_its_first_frame_and_no_other_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.new("P", (8, 8), number % 2) for number in range(2000)]
    for number, frame in enumerate(frames):
        frame.putpalette([number % 256] * 3 + [9] * 3)
    data = encoded("GIF", frames[0], save_all=True, append_images=frames[1:], optimize=False)
    sought: list[int] = []
    seek = Image.Image.seek
    monkeypatch.setattr(
        "PIL.GifImagePlugin.GifImageFile.seek", lambda image, frame: sought.append(frame) or seek(image, frame)
    )
    assert open_image(embedded(data)).getpixel((0, 0)) == (0, 0, 0)
    assert sought == []


def test_a_tiff_with_tiles_larger_than_the_limit_is_a_bomb() -> None:
    tile = zlib.compress(bytes(64))
    tags = {256: 8, 257: 8, 258: 8, 259: 8, 262: 1, 277: 1, 322: 60_000, 323: 60_000, 324: 8, 325: len(tile)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = struct.pack("<2sHI", b"II", 42, 8 + len(tile))
    data = head + tile + struct.pack("<H", len(tags)) + entries + bytes(4)
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (8, 8)
    assert reason(open_image, embedded(data)) == "decompression_bomb"


def test_a_side_that_is_far_too_long_is_a_bomb() -> None:
    data = encoded("PNG", Image.new("L", (limits.MAX_IMAGE_SIDE + 1, 1)))
    for action in (open_image, image_size):
        assert reason(action, embedded(data)) == "decompression_bomb"


def test_a_limit_that_a_library_has_taken_away_still_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(decoding, "MAX_IMAGE_PIXELS", 100)
    assert reason(open_image, embedded(encoded("PNG", Image.new("L", (20, 20))))) == "decompression_bomb"


def test_a_file_that_is_too_large_or_no_file_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(tmp_path / "sparse.png", "wb") as file:
        file.truncate(limits.MAX_IMAGE_BYTES + 1)
    os.mkfifo(tmp_path / "pipe.png")
    for level in ("decode", "header"):
        assert (
            reason(check_image, {"bytes": None, "path": str(tmp_path / "sparse.png")}, level) == "decompression_bomb"
        )
        assert reason(check_image, {"bytes": None, "path": str(tmp_path / "pipe.png")}, level) == "missing_image"


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """An archive whose members have one fault each."""
    path = tmp_path / "images.zip"
    data = encoded("PNG", Image.effect_noise((64, 64), 90))
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("good.png", "cut.png", "locked.png", "method.png", "checksum.png", "lying.png"):
            archive.writestr(name, data, compress_type=zipfile.ZIP_DEFLATED)
        archive.writestr("bomb.png", bytes(limits.MAX_IMAGE_BYTES // 4 + 1), compress_type=zipfile.ZIP_DEFLATED)
    infos = {info.filename: info for info in zipfile.ZipFile(path).infolist()}
    content = bytearray(path.read_bytes())

    def change(name: str, offset: int, value: bytes) -> None:
        """In the local header and in the directory, where the same fields stand two bytes later."""
        local = infos[name].header_offset
        content[local + offset : local + offset + len(value)] = value
        central = content.rindex(b"PK\1\2", 0, content.rindex(name.encode()))
        content[central + offset + 2 : central + offset + 2 + len(value)] = value

    start = infos["cut.png"].header_offset + 30 + len("cut.png")
    content[start : start + 40] = b"\xff" * 40
    change("locked.png", 6, b"\1\0")  # flag: encrypted
    change("method.png", 8, struct.pack("<H", 97))
    change("checksum.png", 14, b"\0\0\0\0")
    change("lying.png", 22, struct.pack("<I", 9))  # says nine bytes
    path.write_bytes(content)
    return path


def test_each_damaged_member_is_one_error_with_its_reason(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_IMAGE_BYTES", limits.MAX_IMAGE_BYTES // 4)
    assert open_image(resolve_image("good.png", damaged)).size == (64, 64)
    for name, word in (
        ("cut", "zlib|Error -3"),
        ("locked", "password"),
        ("method", "97|compression"),
        ("checksum", "CRC"),
        ("lying", "CRC"),
    ):
        with pytest.raises(RecordError, match=word) as caught:
            check_image(resolve_image(f"{name}.png", damaged), "none")
        assert caught.value.reason == "unreadable_image", name
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda *args: pytest.fail("it was unpacked"))
    assert reason(open_image, resolve_image("bomb.png", damaged)) == "decompression_bomb"


def test_bzip2_that_unfolds_beyond_its_size_is_read_in_small_pieces(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", encoded("PNG", Image.new("L", (8, 8))), compress_type=zipfile.ZIP_BZIP2)
        archive.writestr("b.png", bytes(20 << 20), compress_type=zipfile.ZIP_BZIP2)
    with zipfile.ZipFile(path) as archive:
        claimed = archive.getinfo("b.png").file_size
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", claimed), struct.pack("<I", 1000)))
    assert open_image(resolve_image("a.png", path)).size == (8, 8)
    assert reason(open_image, resolve_image("b.png", path)) == "unreadable_image"


def test_a_compressed_tar_is_a_mistake_of_the_source(tmp_path: Path) -> None:
    (tmp_path / "images.tar.gz").write_bytes(b"")
    with pytest.raises(ValueError, match="Decompress it to a plain"):
        image_root_of(SourceConfig("s", "data.json", image_root=str(tmp_path / "images.tar.gz")))


def test_the_reader_of_files_uses_the_same_bound() -> None:
    assert images.MAX_IMAGE_BYTES == archives.MAX_IMAGE_BYTES == limits.MAX_IMAGE_BYTES


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_whose_path_holds_the_separator_opens_no_other_file(tmp_path: Path, kind: str) -> None:
    """`zip://member::archive` ends at the last `::`, so `x::/home/a.zip` inside a repository meant `/home/a.zip`."""
    private = tmp_path / f"private.{kind}"
    private.write_bytes(b"")
    planted = Path(f"{tmp_path}/data/x::{private}")
    planted.parent.mkdir(parents=True)
    planted.write_bytes(b"")
    assert archives.archive_of(resolve_image("a.png", planted)["path"]) == str(private)  # what must not come about
    with pytest.raises(ValueError, match="another file would be opened"):
        image_root_of(SourceConfig(name="a", path="a.json", image_root=str(planted)))
    commit = "0" * 40
    with pytest.raises(ValueError, match="another file would be opened"):
        image_root_of(SourceConfig(name="a", path="a.json", image_root=f"hf://datasets/a/b@{commit}/x::/a.{kind}"))
