"""Compare collating with TRL's stock vision collator: same records, processor, labels; on one core, as a ratio.

    python benchmarks/collating.py --json benchmarks/results/collating.json

Each pass fetches the rows and decodes, resizes, tokenises and batches them; the two collators take turns, and the best
pass of each counts (a busy machine only ever makes one slower). TRL pads rows of 16 records; ours packs the same
records with `plan_step`. A useful token is one that is no padding; positions are what the language model computes.
Exit status 1 if ours is slower, or its batches hold no more useful tokens per position.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


BATCH_SIZE = 16


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--num_batches", type=int, default=8)
    parser.add_argument("--num_passes", type=int, default=5)
    args = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    sys.path.insert(0, str(Path(__file__).parent))
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder), args.num_batches, args.num_passes)
    print(json.dumps(result, indent=2))
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["ratio_per_sample"] >= 1 and result["ratio_per_position_useful"] > 1 else 1


def run(folder: Path, num_batches: int, num_passes: int) -> dict[str, Any]:
    import datasets
    import torch
    from data_plane import where_and_when
    from stand_in import make_processor, write_stand_in
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    from transformers_llava.data.batches.collators import PackedCollator
    from transformers_llava.data.batches.packing import plan_step
    from transformers_llava.data.mixture.config import SourceConfig
    from transformers_llava.data.mixture.source import load_source
    from transformers_llava.data.tokens.counting import measure_example

    torch.set_num_threads(1)
    path = write_stand_in(folder, scale=0.01, num_images=120)
    processor = make_processor(folder)
    num_examples = num_batches * BATCH_SIZE
    source = SourceConfig("mix665k", str(path), image_root=str(folder), sampling=f"first:{num_examples}")
    dataset, _ = load_source(source, cache_dir=folder / "cache")
    lengths, has_image = zip(*(measure_example(example, processor) for example in dataset))  # type: ignore[arg-type]
    packs = plan_step(lengths, has_image, num_batches)
    decoded = dataset.cast_column("images", datasets.List(datasets.Image()))
    rows = [list(range(start, start + BATCH_SIZE)) for start in range(0, num_examples, BATCH_SIZE)]

    def collate(collator: Callable[[list], Any], data: Any, batches: list[list[int]]) -> tuple[float, int]:
        started, positions = time.perf_counter(), 0
        for batch in batches:
            positions += collator([data[row] for row in batch])["input_ids"].numel()
        return time.perf_counter() - started, positions

    ours = PackedCollator(processor)
    trl = DataCollatorForVisionLanguageModeling(processor, assistant_only_loss=True)
    trl_all_labels = DataCollatorForVisionLanguageModeling(processor)  # its default, which supervises every token
    runs: dict[str, Callable[[], tuple[float, int]]] = {
        "ours": lambda: collate(ours, dataset, packs),
        "trl": lambda: collate(trl, decoded, rows),
        "trl_all_labels": lambda: collate(trl_all_labels, decoded, rows),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    positions: dict[str, int] = {}
    for _ in range(num_passes):
        for name, one_pass in runs.items():
            took, positions[name] = one_pass()
            seconds[name].append(took)
    best = {name: min(times) for name, times in seconds.items()}
    useful = sum(lengths)
    return {
        "ratio_per_sample": round(best["trl"] / best["ours"], 3),
        "ratio_per_sample_all_labels": round(best["trl_all_labels"] / best["ours"], 3),
        "ratio_per_position_useful": round(positions["trl"] / positions["ours"], 3),
        "samples_per_second": {name: round(num_examples / took, 2) for name, took in best.items()},
        "useful_tokens_per_second": {name: round(useful / took) for name, took in best.items()},
        "useful_share_of_positions": {name: round(useful / count, 3) for name, count in positions.items()},
        "seconds_of_passes": {name: [round(took, 3) for took in times] for name, times in seconds.items()},
        "num_examples": num_examples,
        "batch_size": BATCH_SIZE,
        **where_and_when(),
    }


if __name__ == "__main__":
    sys.exit(main())
