"""Import the installed wheel, convert a checkpoint and answer about an image, with the core dependencies alone.

`make wheel` runs this in a new environment: python tests/wheel/answer.py tests/fixtures/checkpoints
"""

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from transformers import pipeline

import transformers_llava  # registers the model


def main(fixtures: Path) -> None:
    installed = Path(transformers_llava.__file__)
    assert "site-packages" in installed.parts, f"this is not the wheel, but {installed}"
    extras = [name for name in ("datasets", "trl", "peft", "accelerate", "pytest") if importlib.util.find_spec(name)]
    assert not extras, f"more than the core dependencies is installed: {extras}"
    checkpoints = fixtures / "checkpoints"
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "converted"
        command = [sys.executable, "-m", "transformers_llava.cli.main", "convert"]
        command += [str(checkpoints / "h_cls_patch"), str(target)]
        command += ["--vision_tower", str(checkpoints / "vision_tower_tiny"), "--check_parity"]
        subprocess.run(command, check=True)
        answerer = pipeline("image-text-to-text", model=str(target))
        image = Image.open(fixtures / "images" / "img_a_64x48.png")
        content = [{"type": "image", "image": image}, {"type": "text", "text": "What is it?"}]
        turns = [{"role": "user", "content": content}]
        answer = answerer(text=turns, return_full_text=False, max_new_tokens=5, do_sample=False)
    assert isinstance(answer[0]["generated_text"], str), answer
    text = answer[0]["generated_text"]
    print(f"transformers-llava {transformers_llava.__version__}: converted, loaded, answered {text!r}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
