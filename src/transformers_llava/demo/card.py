"""A demo report to the model card (README.md) of its checkpoint: what it is, what it learnt from, how, how well."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml


if TYPE_CHECKING:
    from transformers_llava.demo.report import DemoReport

METADATA = {
    "library_name": "transformers",
    "pipeline_tag": "image-text-to-text",
    "license": "apache-2.0",
    "language": "en",
    "tags": ["llava", "transformers-llava", "open_llava"],
}
HYPERPARAMETERS = (
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "weight_decay",
    "max_grad_norm",
    "optim",
    "max_length",
    "chat_template",
    "packed",
    "seed",
)


def write_card(report: "DemoReport", folder: Path) -> Path:
    """Writes `README.md` into the checkpoint's folder and returns its path."""
    path = folder / "README.md"
    path.write_text(render_card(report), encoding="utf-8")
    return path


def render_card(report: "DemoReport") -> str:
    """The card as Markdown with Hub metadata; every figure in it comes from the report."""
    sections = [
        f"---\n{yaml.safe_dump(METADATA, sort_keys=False)}---",
        "# A tiny LLaVA",
        "Made by `llava demo` of transformers-llava: a small CLIP vision tower, a two-layer projector and a small "
        "Llama-style language model, trained in the two stages of LLaVA on rendered scenes and handwritten digits. It "
        "shows that the recipe works; it knows nothing beyond shapes, colours, counts, positions and digits.",
        "## Use\n\n" + _usage(),
        "## Held-out accuracy\n\n" + _accuracy(report),
        "## Data mixture\n\n" + "\n\n".join(_mixture(name, run) for name, run in report.runs.items()),
        "## Training\n\n" + _hyperparameters(report),
        "### What was trained\n\n" + "\n\n".join(_components(name, run) for name, run in report.runs.items()),
        "## Reproduce\n\n"
        f"`llava demo --seed {report.seed}` gives the same weights on the same kind of machine and versions "
        f"(`run.json`). Weights sha256: `{report.weights_sha256}`.",
        "## Limitations\n\nThe vision tower sees pictures at "
        f"{report.parts['vision_tower']['settings']['image_size']} pixels a side, and the language model has read "
        "nothing but captions and questions of this kind. It is a demonstration, not a model to use.",
    ]
    return "\n\n".join(sections) + "\n"


def _usage() -> str:
    return (
        "```python\n"
        "import transformers_llava  # registers the model with transformers\n"
        "from transformers import pipeline\n\n"
        'answerer = pipeline("image-text-to-text", model="checkpoint")\n'
        'picture = {"type": "image", "path": "picture.png"}\n'
        'question = {"type": "text", "text": "Which digit is written here?"}\n'
        'answerer(text=[{"role": "user", "content": [picture, question]}], return_full_text=False)\n'
        "```"
    )


def _accuracy(report: "DemoReport") -> str:
    rows = [
        [source.name, f"{source.accuracy:.1%}", f"{source.blind_accuracy:.1%}", f"{source.num_examples:,}"]
        for source in report.sources
    ]
    table = _table(["test set", "with pictures", "without pictures (control)", "questions"], rows)
    return f"{table}\n\nGreedy answers, exact match but for case and a final full stop."


def _mixture(stage: str, run: dict[str, Any]) -> str:
    rows = [
        [
            s["name"],
            f"{s['num_used']:,}",
            f"{s['proportion']:.1%}",
            f"{s['num_images']:,}",
            s["licence"] or "unknown",
        ]
        for s in run["data"]["sources"]
    ]
    table = _table(["source", "examples", "proportion", "pictures", "licence"], rows)
    return f"Stage `{stage}`, {run['data']['num_used']:,} examples, digest `{run['data']['digest']}`:\n\n{table}"


def _hyperparameters(report: "DemoReport") -> str:
    settings = {name: run["configuration"] for name, run in report.runs.items()}
    rows = [[f"`{name}`", *(f"{values.get(name)}" for values in settings.values())] for name in HYPERPARAMETERS]
    return _table(["", *settings], rows)


def _components(stage: str, run: dict[str, Any]) -> str:
    rows = [
        [row["component"], row["mode"], f"{row['parameters']:,}", f"{row['trainable']:,}"] for row in run["components"]
    ]
    return f"Stage `{stage}`:\n\n" + _table(["component", "mode", "parameters", "trainable"], rows)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


__all__ = ["render_card", "write_card"]
