"""What a person is shown: supervised text in green, a picture as one mark, nothing that the page would run."""

from pathlib import Path

import pytest
from PIL import Image

from transformers_llava.data.encoding import encode_example
from transformers_llava.data.inspection import plot_histograms, render_example


def test_supervised_text_is_green_and_a_picture_is_one_mark(tiny_processor, example):
    encoded = encode_example(example([None, "Q"], "A"), tiny_processor)
    assert render_example(encoded, tiny_processor) == (
        "<s>USER: \x1b[90m<image: 4 tokens>\x1b[0m\nQ ASSISTANT: \x1b[32mA</s>\x1b[0m"
    )


def test_a_page_shows_tags_instead_of_running_them(tiny_processor, example):
    encoded = encode_example(example("Q", "<script>x</script>"), tiny_processor)
    page = render_example(encoded, tiny_processor, format="html")
    assert '<span style="color:#1a7f37;font-weight:bold">&lt;script&gt;x&lt;/script&gt;&lt;/s&gt;</span>' in page
    assert "<script>" not in page


def test_histograms_are_a_picture(tmp_path: Path):
    pytest.importorskip("matplotlib")
    plot_histograms({"tokens": [1, 2, 2, 9], "width": [640.0]}, tmp_path / "h.png")
    assert Image.open(tmp_path / "h.png").size == (1080, 384)
