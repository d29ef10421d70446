"""Ask many questions about one image; the image and all before the question are computed once.

python examples/many_questions.py demo_output/checkpoint image.png "Is it red?" "How many corners does it have?"
"""

import argparse
from pathlib import Path

from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

import transformers_llava  # noqa: F401 (registers the model with transformers)
from transformers_llava.generation.answering import ImageAnswerer


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("checkpoint", help="folder or Hub id")
parser.add_argument("image", type=Path)
parser.add_argument("questions", nargs="+")
args = parser.parse_args()

model = AutoModelForImageTextToText.from_pretrained(args.checkpoint)
processor = AutoProcessor.from_pretrained(args.checkpoint)
answerer = ImageAnswerer(model, processor, Image.open(args.image))
for question, answer in zip(args.questions, answerer.answer_many(args.questions, max_new_tokens=16), strict=True):
    print(f"{question} -> {answer}")
