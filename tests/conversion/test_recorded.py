"""Two recorded checkpoints of the original travel with the tests: a clone proves parity without the golden folder."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from support.recorded_checkpoints import RecordedCase, check_answers, check_images, check_logits


FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "checkpoints"


@pytest.mark.parametrize("name", ["h_cls_patch", "next_qwen"])
def test_a_checkpoint_of_the_original_gives_its_recorded_numbers(name):
    case = RecordedCase(FIXTURES, name)
    model = AutoModelForImageTextToText.from_pretrained(case.checkpoint, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(case.checkpoint)
    check_images(case, model, processor)
    check_logits(case, model, processor)
    check_answers(case, model, processor)
