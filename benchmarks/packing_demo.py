"""Compare the demo's second stage packed and padded: time, padding, and held-out accuracy.

    llava demo --output_dir demo_output
    python -m benchmarks.packing_demo demo_output --json benchmarks/results/packing_demo.json

Both runs take the same samples at every step. Seconds are of the training loop alone, from `run.json`'s record of the
steps; the padded run uses sdpa attention and batches of similar lengths, which is the best it can do.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transformers import AutoModelForImageTextToText, AutoProcessor

from transformers_llava.artifacts.run_record.record_file import read_run_record
from transformers_llava.data.mixture.config import SourceConfig
from transformers_llava.data.mixture.source import load_source
from transformers_llava.evaluation.exact_match import evaluate_exact_match
from transformers_llava.training.environment import package_versions


ROOT = Path(__file__).resolve().parent.parent
KINDS = {
    "packed": ["--packed", "true", "--attn_implementation", "varlen"],
    "padded": ["--packed", "false", "--attn_implementation", "sdpa"],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="what `llava demo` wrote")
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--epochs", type=float, default=2.0, help="the demo trains two")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        demo = args.demo.resolve()
        runs = {kind: measure(demo, Path(folder) / kind, flags, args.epochs) for kind, flags in KINDS.items()}
    result = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": package_versions(),
        "padded_seconds_over_packed": round(runs["padded"]["seconds"] / runs["packed"]["seconds"], 3),
        **runs,
    }
    text = json.dumps(result, indent=2) + "\n"
    print(text)
    if args.json is not None:
        args.json.write_text(text)
    return 0


def measure(demo: Path, output_dir: Path, flags: list[str], epochs: float) -> dict[str, Any]:
    """Trains stage 2 of the demo as it did, with other flags, and asks the held-out questions."""
    names = ["scenes", "digits", "text_only"]
    sources = [
        {"name": name, "path": str(folder / "instructions.json"), "image_root": str(folder)}
        for name in names
        for folder in (demo / "data" / name,)
    ]
    command = [sys.executable, "-m", "transformers_llava.cli.main", "train", "--config", "tiny/2_instruct"]
    command += ["--accelerate_config", "cpu", "--strict", "--output_dir", str(output_dir), "--seed", "0", *flags]
    command += ["--num_train_epochs", str(epochs)]
    command += ["--model_name_or_path", str(demo / "align"), "--train_data", json.dumps(sources)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    record = read_run_record(output_dir).own
    steps = [entry for entry in record.loss_history if "loss" in entry]
    summary = next(entry for entry in record.loss_history if "train_runtime" in entry)
    return {
        "seconds": round(summary["train_runtime"], 1),
        "num_steps": record.progress.global_step,
        "padding": round(sum(entry["padding"] for entry in steps) / len(steps), 4),
        "last_loss": steps[-1]["loss"],
        "accuracy": _accuracy(output_dir, demo, names),
    }


def _accuracy(checkpoint: Path, demo: Path, names: list[str]) -> dict[str, float]:
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    processor = AutoProcessor.from_pretrained(checkpoint)
    found = {}
    for name in names:
        test = demo / "data" / name / "test.json"
        if not test.is_file():
            continue
        config = SourceConfig(name=name, path=str(test), image_root=str(demo / "data" / name))
        examples, _ = load_source(config, strict=True)
        found[name] = round(evaluate_exact_match(model, processor, examples).accuracy, 4)
    return found


if __name__ == "__main__":
    sys.exit(main())
