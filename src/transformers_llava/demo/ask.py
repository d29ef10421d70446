"""Answer questions with a saved checkpoint, in a process of its own: `python -m transformers_llava.demo.ask FOLDER`.

Standard input is JSON, `[{"image": PATH or null, "question": TEXT}, ...]`; standard output the list of answers. The
demo runs this after training, so that nothing but the saved folder can have made the answers.
"""

import json
import sys
from typing import Any

from transformers import pipeline

import transformers_llava


def main() -> None:
    """Answers what standard input asks with the checkpoint named on the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m transformers_llava.demo.ask FOLDER < questions.json")
    asked = json.load(sys.stdin)
    transformers_llava.register()
    answerer = pipeline("image-text-to-text", model=sys.argv[1])
    conversations = [[{"role": "user", "content": _content(entry)}] for entry in asked]
    answers = answerer(text=conversations, max_new_tokens=16, do_sample=False, return_full_text=False)
    json.dump([answer[0]["generated_text"].strip() for answer in answers], sys.stdout)


def _content(entry: dict[str, Any]) -> list[dict[str, str]]:
    image = [{"type": "image", "path": entry["image"]}] if entry["image"] else []
    return [*image, {"type": "text", "text": entry["question"]}]


if __name__ == "__main__":
    main()
