"""Put our processors and the built-in ones under transformers' own tests; runs inside the fetched suite."""

import importlib.util
import os
import unittest
from typing import Any

from tests.test_image_processing_common import ImageProcessingTester, ImageProcessingTestMixin
from tests.test_processing_common import ProcessorTesterMixin
from transformers import LlavaNextProcessor, LlavaProcessor
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from transformers_llava import OpenLlavaProcessor
from transformers_llava.modeling.image_processing_pil_open_llava import OpenLlavaImageProcessorPil


_SPEC = importlib.util.spec_from_file_location("tiny", os.environ["CONFORMANCE_TINY"])
assert _SPEC is not None
assert _SPEC.loader is not None
tiny = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tiny)
SQUARE = {"height": 28, "width": 28}
SIZES = {"size": {"shortest_edge": 28}, "crop_size": SQUARE}


class _FromParts(ProcessorTesterMixin):
    image_processor: Any
    settings: dict[str, Any]

    @classmethod
    def _setup_tokenizer(cls) -> Any:
        tokenizer = tiny.make_tokenizer()
        tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
        return tokenizer

    @classmethod
    def _setup_image_processor(cls) -> Any:
        return cls.image_processor

    @classmethod
    def prepare_processor_dict(cls) -> dict[str, Any]:
        return {"chat_template": tiny.TEMPLATE, **cls.settings}


class OpenLlavaProcessorTest(_FromParts, unittest.TestCase):
    processor_class = OpenLlavaProcessor
    image_processor = OpenLlavaImageProcessorPil(**SIZES)
    settings = {"num_patches_per_side": 2}


class LlavaProcessorTest(_FromParts, unittest.TestCase):
    processor_class = LlavaProcessor
    image_processor = LlavaImageProcessorPil(**SIZES)
    settings = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}


class LlavaNextProcessorTest(_FromParts, unittest.TestCase):
    processor_class = LlavaNextProcessor
    image_processor = LlavaNextImageProcessorPil(**SIZES, image_grid_pinpoints=tiny.PINPOINTS)
    settings = LlavaProcessorTest.settings


def _tester(image_processor_class: type, **defaults: Any) -> type:
    class Tester(ImageProcessingTester):
        def __init__(self, parent: Any, **kwargs: Any) -> None:
            super().__init__(parent, **{**defaults, **kwargs})

        def _get_image_processing_classes(self) -> dict[str, type]:
            return {"pil": image_processor_class}

        def expected_output_image_shape(self, images: Any) -> tuple[int, ...]:
            side = self.crop_size["height"]
            return (3, side, side)

    return Tester


_SMALL = {"crop_size": {"height": 18, "width": 18}}


class OpenLlavaImageProcessorTest(ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = _tester(OpenLlavaImageProcessorPil, size={"shortest_edge": 18}, **_SMALL)


class OpenLlavaPaddingImageProcessorTest(ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = _tester(
        OpenLlavaImageProcessorPil, size={"shortest_edge": 18}, image_aspect_ratio="pad", **_SMALL
    )


class LlavaImageProcessorTest(ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = _tester(LlavaImageProcessorPil, size={"shortest_edge": 18}, do_pad=True, **_SMALL)
