"""
Runs several recipes in one group of processes: `torchrun --nproc_per_node 2 worker.py CASES.json`.

A file of cases is a list of recipes. accelerate shards on accelerators alone; the one thing that is different here is
that it is told to treat the CPU as one (only with FSDP; DeepSpeed has a CPU backend of its own).
"""

import json
import os
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedType

from transformers_llava.training import trainer
from transformers_llava.training.backends import unshard_output_embeddings
from transformers_llava.training.recipe import Recipe
from transformers_llava.training.sft import train


def main() -> None:
    torch.set_num_threads(1)
    for values in json.loads(Path(sys.argv[1]).read_text()):
        uncured = values.pop("without_the_cure_of_the_head", False)
        trainer.unshard_output_embeddings = (lambda model: None) if uncured else unshard_output_embeddings
        recipe = Recipe.from_dict(values)
        if os.environ.get("ACCELERATE_USE_FSDP") == "true":
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        train(recipe)
        AcceleratorState._reset_state()
        GradientState._reset_state()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
