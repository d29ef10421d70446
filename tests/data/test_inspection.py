"""What a user is shown: supervised text in green, an image as one mark, nothing that the page would run."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from transformers_llava.data.inspection import image_sizes, plot_histograms, render_example, rows_to_show
from transformers_llava.data.tokens.encoding import encode_example


def test_supervised_text_is_green_and_an_image_is_one_mark(tiny_processor, example):
    encoded = encode_example(example([None, "Q"], "A"), tiny_processor)
    assert render_example(encoded, tiny_processor) == (
        "<s>USER: \x1b[90m<image: 4 tokens>\x1b[0m\nQ ASSISTANT: \x1b[32mA</s>\x1b[0m"
    )


def test_a_page_shows_tags_instead_of_running_them(tiny_processor, example):
    encoded = encode_example(example("Q", "<script>x</script>"), tiny_processor)
    page = render_example(encoded, tiny_processor, format="html")
    assert '<span style="color:#1a7f37;font-weight:bold">&lt;script&gt;x&lt;/script&gt;&lt;/s&gt;</span>' in page
    assert "<script>" not in page


def test_histograms_are_an_image(tmp_path: Path):
    pytest.importorskip("matplotlib")
    plot_histograms({"tokens": [1, 2, 2, 9], "width": [640.0]}, tmp_path / "h.png")
    assert Image.open(tmp_path / "h.png").size == (1080, 384)


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=r"pip install 'transformers-llava\[inspect\]'"):
        plot_histograms({"tokens": [1]}, tmp_path / "h.png")


def test_sources_take_turns_in_what_is_shown():
    assert rows_to_show(["a", "a", "a", "b"], 3) == [0, 3, 1]
    assert rows_to_show(["a"], 0) == []
    assert rows_to_show([], 2) == []


def test_sizes_come_from_distinct_images(example, tmp_path, png):
    (tmp_path / "x.png").write_bytes(png(50, 20))
    on_disk = example([None, "Q"], "A")
    on_disk["images"] = [{"bytes": None, "path": str(tmp_path / "x.png")}]
    broken = example([None, "Q"], "A")
    broken["images"] = [{"bytes": b"no image", "path": None}]
    assert image_sizes([on_disk, on_disk, broken, example([None, "Q"], "A")]) == [(50, 20), (40, 30)]
    assert image_sizes([on_disk, example([None, "Q"], "A")], at_most=1) == [(50, 20)]
