"""What a processor opens by itself: paths, addresses and base64, by an allow-list of formats, with their content."""

import base64
import http.server
import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers.image_utils import load_image as load_image_of_transformers

import tiny
from transformers_llava.modeling.image_processing_pil_open_llava import OpenLlavaImageProcessorPil
from transformers_llava.modeling.images.image_opening import load_image


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


def encoded(image: Image.Image, format: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, format)
    return stream.getvalue()


@pytest.fixture
def processor() -> OpenLlavaImageProcessorPil:
    return OpenLlavaImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})


def sources(data: bytes, folder: Path) -> list[str]:
    (folder / "image.jpg").write_bytes(data)
    text = base64.b64encode(data).decode()
    return [str(folder / "image.jpg"), f"data:image/png;base64,{text}", text]


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_ordinary_images_are_opened_as_transformers_opens_them(tmp_path: Path, processor, mode: str) -> None:
    image = tiny.make_image(20, 30).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    image.save(stream, "PNG", exif=exif)
    for source in sources(stream.getvalue(), tmp_path):
        expected, found = load_image_of_transformers(source), processor.fetch_images([source])[0]
        assert (found.mode, found.size, found.tobytes()) == (expected.mode, expected.size, expected.tobytes())


def test_postscript_never_reaches_ghostscript(tmp_path: Path, processor, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gs").write_text(f"#!/bin/sh\necho run >> {tmp_path / 'ran'}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    for source in sources(POSTSCRIPT, tmp_path):
        with pytest.raises(ValueError, match="is not an image in a format that is read"):
            processor.fetch_images(source)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ValueError, match="is no image: neither a file"):
        load_image("nowhere.jpg")


def test_an_address_is_asked_and_what_it_gives_is_opened_alike() -> None:
    answers = {"/a.png": encoded(tiny.make_image(20, 30)), "/b.png": POSTSCRIPT}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answers[self.path])

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        try:
            assert load_image(f"{address}/a.png").tobytes() == tiny.make_image(20, 30).tobytes()
            with pytest.raises(ValueError, match="in a format that is read"):
                load_image(f"{address}/b.png")
        finally:
            server.shutdown()
            thread.join()


def test_16_bit_images_keep_their_content_and_other_numbers_are_refused(tmp_path: Path, processor) -> None:
    levels = np.arange(256, dtype=np.uint16)[None, :].repeat(256, 0)
    data = encoded(Image.fromarray(levels * 256))
    expected = processor(Image.fromarray(levels.astype(np.uint8)), return_tensors="np")["pixel_values"]
    with Image.open(io.BytesIO(data)) as image:
        for given in (image, processor.fetch_images(sources(data, tmp_path)[0])):
            assert (processor(given, return_tensors="np")["pixel_values"] == expected).all()
    with pytest.raises(ValueError, match=r"floating-point numbers \(Pillow's mode F\)"):
        processor(Image.new("F", (16, 16)), return_tensors="np")
    with pytest.raises(ValueError, match=r"Pillow's mode I\)"):
        load_image(sources(encoded(Image.new("I", (16, 16)), "TIFF"), tmp_path)[0])


def test_a_conversation_names_files_that_are_opened_alike(tmp_path: Path, tiny_processor) -> None:
    def ask(path: str) -> dict:
        content = [{"type": "image", "path": path}, {"type": "text", "text": "Q"}]
        return tiny_processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=True, return_dict=True, return_tensors="pt"
        )

    assert ask(sources(encoded(tiny.make_image()), tmp_path)[0])["pixel_values"].shape[0] >= 1
    with pytest.raises(ValueError, match="in a format that is read"):
        ask(sources(POSTSCRIPT, tmp_path)[0])
