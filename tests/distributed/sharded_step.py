"""Run one FSDP2 step on gloo, on a CPU and with numbers: `python -m distributed.sharded_step RANK FOLDER`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from transformers_llava import OpenLlavaForConditionalGeneration
from transformers_llava.training.estimate.recipe_shapes import DataShape, plan_config
from transformers_llava.training.estimate.trace import step as traced_step
from transformers_llava.training.estimate.trace.fake_parts import collate_encoded, typical_examples
from transformers_llava.training.estimate.trace.operators import OperatorCounter
from transformers_llava.training.model.components import apply_component_config
from transformers_llava.training.recipe.recipe import Recipe


def main(arguments: Sequence[str]) -> None:
    """Reads `recipe.json` and `data.json` of the folder; writes `[name, calls, bytes]` of each collective."""
    rank, folder = int(arguments[0]), Path(arguments[1])
    recipe = Recipe.from_dict(json.loads((folder / "recipe.json").read_text()))
    data = DataShape(**json.loads((folder / "data.json").read_text()))
    model = OpenLlavaForConditionalGeneration._from_config(plan_config(recipe.model), attn_implementation="sdpa")
    apply_component_config(model, recipe.components)
    trainer = traced_step._trainer(recipe, model, str(folder / f"output_{rank}"))
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    traced_step._wrap(trainer, init_device_mesh("cpu", (2,), mesh_dim_names=("fsdp",)))
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1
    examples = typical_examples(recipe.sft.per_device_train_batch_size, data, plan_config(recipe.model))
    found = []
    for _ in range(2):  # the first step makes the optimizer's state
        batch = collate_encoded(examples, trainer.processing_class, packed=False)
        counter = OperatorCounter()
        with counter:
            trainer.training_step(trainer.model_wrapped, batch, num_items_in_batch=torch.tensor(100))
            traced_step._update(trainer)
        found = [[k.name, t.calls, t.bytes] for k, t in counter.totals.items() if k.kind == "communication"]
    (folder / f"collectives_{rank}.json").write_text(json.dumps(sorted(found)))
    dist.barrier()  # nobody leaves while the other still needs the store of rank 0


if __name__ == "__main__":
    main(sys.argv[1:])
