"""Make a tiny checkpoint, and POPE in the original's layout with six questions an image."""

import json
from pathlib import Path

import tiny


SPLITS = ("adversarial", "popular", "random")
THINGS = ("fountain", "bicycle")
SHORT = "\nAnswer the question using a single word or phrase."


def write_model(folder: Path) -> Path:
    """A random model in float64, so that no near tie decides; its answers end nowhere."""
    model = tiny.make_model().double()
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    tiny.make_processor().save_pretrained(folder)
    return folder


def write_pope(data_root: Path, num_images: int = 2) -> Path:
    """Split after split, as the original's file has it, so that questions about an image are far apart."""
    folder = data_root / "pope"
    (folder / "val2014").mkdir(parents=True)
    (folder / "coco").mkdir()
    questions = []
    for number in range(num_images):
        tiny.make_image(seed=number).save(folder / "val2014" / f"{number}.png")
    for split in SPLITS:
        labels = []
        for number in range(num_images):
            for thing in THINGS:
                text, image = f"Is there a {thing} in the image?", f"{number}.png"
                labels.append({"question_id": len(labels) + 1, "image": image, "text": text, "label": "yes"})
                questions.append(
                    {"question_id": len(questions), "image": image, "text": text + SHORT, "category": split}
                )
        (folder / "coco" / f"coco_pope_{split}.json").write_text("".join(json.dumps(row) + "\n" for row in labels))
    lines = "".join(json.dumps(row) + "\n" for row in questions)
    (folder / "llava_pope_test.jsonl").write_text(lines)
    return data_root
