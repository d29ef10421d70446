"""Convert a LLaVA checkpoint of any layout, load it with the Auto classes, and ask about an image.

python examples/convert_and_ask.py liuhaotian/llava-v1.5-7b my-llava image.png "What is shown here?"
"""

import argparse
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from transformers_llava.conversion.convert import convert_checkpoint


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("source", help="folder or Hub id: original, LoRA, llava-hf, ...")
parser.add_argument("target", type=Path, help="folder to make; used as it is if it is there")
parser.add_argument("image", type=Path)
parser.add_argument("question", nargs="?", default="Describe the image.")
parser.add_argument("--vision_tower", help="in place of the tower that the configuration names")
args = parser.parse_args()

if not args.target.exists():
    print(convert_checkpoint(args.source, args.target, vision_tower=args.vision_tower))

model = AutoModelForImageTextToText.from_pretrained(args.target)
processor = AutoProcessor.from_pretrained(args.target)
content = [{"type": "image", "image": Image.open(args.image)}, {"type": "text", "text": args.question}]
inputs = processor.apply_chat_template(
    [{"role": "user", "content": content}],
    add_generation_prompt=True,
    tokenize=True,
    return_dict=True,
    return_tensors="pt",
).to(model.device, model.dtype)
with torch.inference_mode():
    output = model.generate(**inputs, max_new_tokens=64, do_sample=False)
print(processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
