"""Fine-tune a checkpoint on your own records: instruction tuning of projector and language model, packed.

python examples/finetune_on_own_data.py demo_output/checkpoint train.json images output

`train.json` is a list of {"id", "image", "conversations": [{"from": "human", "value": "<image>\\n..."}, ...]}.
The command `llava train --config tiny/2_instruct` does the same, and on several GPUs.
"""

import argparse

from transformers_llava.training.recipe.recipe import Recipe
from transformers_llava.training.sft import train


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("checkpoint", help="folder or Hub id to start from")
parser.add_argument("records", help="JSON, JSONL or Parquet")
parser.add_argument("images", help="folder, zip or tar that the records' image paths start in")
parser.add_argument("output", help="folder for the trained checkpoint")
parser.add_argument("--max_steps", type=int, default=-1, help="stop early; default: one epoch")
args = parser.parse_args()

recipe = Recipe.from_dict(
    {
        "stage": "instruct",
        "model_name_or_path": args.checkpoint,
        "train_data": [{"name": "mine", "path": args.records, "image_root": args.images}],
        "vision_tower": {"mode": "frozen"},
        "multi_modal_projector": {"mode": "full"},
        "language_model": {"mode": "full"},
        "packed": True,
        "per_device_train_batch_size": 8,
        "learning_rate": 2e-5,
        "lr_scheduler_type": "cosine",
        "num_train_epochs": 1,
        "max_steps": args.max_steps,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "output_dir": args.output,
    }
)
record = train(recipe)
losses = [entry["loss"] for entry in record.loss_history if "loss" in entry]
print(f"loss {losses[0]} -> {losses[-1]}; the checkpoint and its run.json are in {args.output}")
