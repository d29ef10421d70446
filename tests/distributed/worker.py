"""
Run several recipes in one group of processes: `torchrun --nproc_per_node 2 worker.py CASES.json`.

A file of cases is a list of recipes. `RANK` in a value is the rank of the process; `refusal` is the start of a file's
name into which each process writes why it would not train; `copy_for_rank_0` puts a folder where only it looks.
accelerate shards on accelerators alone; the one thing that is different here is
that it is told to treat the CPU as one (only with FSDP; DeepSpeed has a CPU backend of its own).
"""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedType

from transformers_llava.training import trainer
from transformers_llava.training.distributed import unshard_output_embeddings
from transformers_llava.training.recipe.recipe import Recipe
from transformers_llava.training.recipe.recipe_error import RecipeError
from transformers_llava.training.sft import train


def main(arguments: Sequence[str]) -> None:
    torch.set_num_threads(1)
    rank = os.environ["RANK"]
    for case in json.loads(Path(arguments[0]).read_text()):
        values = json.loads(json.dumps(case).replace("RANK", rank))
        refusal, copied = values.pop("refusal", None), values.pop("copy_for_rank_0", None)
        if copied is not None and rank == "0":
            shutil.copytree(*copied)
        uncured = values.pop("without_the_cure_of_the_head", False)
        trainer.unshard_output_embeddings = (lambda model: None) if uncured else unshard_output_embeddings
        recipe = Recipe.from_dict(values)
        if os.environ.get("ACCELERATE_USE_FSDP") == "true":
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        try:
            train(recipe)
            assert refusal is None, "it was to be refused, and it trained"
        except RecipeError as error:
            if refusal is None:
                raise
            Path(f"{refusal}_{rank}.txt").write_text(str(error))
        AcceleratorState._reset_state()
        GradientState._reset_state()
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # nobody leaves while another still needs the store of rank 0


if __name__ == "__main__":
    main(sys.argv[1:])
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
