"""What a traced step counts, against what torch counts and the allocator holds when the same step really runs."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml
from tests.tiny import make_config
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from forked import Forked, wait_for_all
from transformers_llava import OpenLlavaForConditionalGeneration
from transformers_llava.training.estimate.dry_run import dry_run
from transformers_llava.training.estimate.gpus import find_gpu
from transformers_llava.training.estimate.recipe_shapes import DataShape
from transformers_llava.training.estimate.trace import step as traced_step
from transformers_llava.training.estimate.trace.device_reads import refuse_reads
from transformers_llava.training.estimate.trace.fake_parts import collate_encoded, typical_examples
from transformers_llava.training.estimate.trace.live_bytes import LiveBytes
from transformers_llava.training.estimate.trace.operators import OperatorCounter, OperatorKey, OperatorTotals
from transformers_llava.training.estimate.trace.roofline import bound_time
from transformers_llava.training.estimate.trace.step import trace_step
from transformers_llava.training.estimate.trace.traced_step import TracedStep
from transformers_llava.training.model.components import apply_component_config, lora_config
from transformers_llava.training.model.gradient_checkpointing import limit_checkpointing
from transformers_llava.training.recipe.recipe import Recipe
from transformers_llava.training.recipe.recipe_error import RecipeError


H100 = find_gpu("H100 80 GB")
DATA = DataShape(
    num_examples=8, text_tokens=124.0, label_tokens=60.0, image_share=1.0, image_tokens=4, tiles=1, origin=""
)
ALIGN = {
    "vision_tower": {"mode": "frozen"},
    "multi_modal_projector": {"mode": "full"},
    "language_model": {"mode": "frozen"},
}
INSTRUCT = {**ALIGN, "language_model": {"mode": "full"}}
LORA = {**ALIGN, "language_model": {"mode": "lora", "lora_rank": 4, "lora_alpha": 8, "lora_dropout": 0.0}}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configuration of a tiny model, and nothing else."""
    folder = tmp_path_factory.mktemp("tiny")
    config = make_config(image_token_index=259)
    config.text_config.num_hidden_layers = 4
    config.save_pretrained(folder)
    return folder


def values_of(checkpoint: Path, components: dict, **changes) -> dict:
    return {
        "stage": "instruct",
        "model_name_or_path": str(checkpoint),
        "attn_implementation": "sdpa",
        "train_data": "none",
        "packed": False,
        "use_cpu": True,
        "bf16": False,
        "output_dir": "unused",
        "per_device_train_batch_size": 4,
        "gradient_checkpointing": False,
        "report_to": "none",
        **components,
        **changes,
    }


def recipe_of(checkpoint: Path, components: dict, **changes) -> Recipe:
    return Recipe.from_dict(values_of(checkpoint, components, **changes))


def real_step(recipe: Recipe, folder: Path) -> tuple[int, int]:
    """Operations and most bytes alive of the same step, run with numbers: by torch's counter and torch's profiler."""
    model = OpenLlavaForConditionalGeneration._from_config(
        traced_step.plan_config(recipe.model), attn_implementation="sdpa"
    )
    apply_component_config(model, recipe.components)
    adapters = lora_config(model, recipe.components)
    if adapters is not None:
        from peft import get_peft_model

        model = get_peft_model(model, adapters)
    trainer = traced_step._trainer(recipe, model, str(folder))
    if recipe.sft.gradient_checkpointing:
        trainer.model.gradient_checkpointing_enable(recipe.sft.gradient_checkpointing_kwargs)
        if recipe.sft.partial_checkpointing is not None:
            limit_checkpointing(trainer.model, recipe.sft.partial_checkpointing)
    trainer.model_wrapped = trainer.model
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1
    examples = typical_examples(4, DATA, trainer.model.config)

    def run() -> None:
        batch = collate_encoded(examples, trainer.processing_class, packed=False)
        trainer.training_step(trainer.model, batch, num_items_in_batch=torch.tensor(240))
        traced_step._update(trainer)

    run()
    with FlopCounterMode(display=False) as counter:
        run()
    parameters = [*trainer.model.parameters(), *trainer.model.buffers()]
    states = [value for state in trainer.optimizer.state.values() for value in state.values()]
    lasting = sum(tensor.untyped_storage().nbytes() for tensor in [*parameters, *states])
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    now = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return counter.get_total_flops(), lasting + peak


def traced(recipe: Recipe, **kwargs) -> TracedStep:
    return trace_step(recipe, DATA, **{"backend": "single_gpu", "num_gpus": 1, **kwargs})


@pytest.mark.parametrize(
    ("components", "changes"),
    [
        (ALIGN, {}),
        (INSTRUCT, {}),
        (LORA, {}),
        (INSTRUCT, {"gradient_checkpointing": True}),
        (INSTRUCT, {"gradient_checkpointing": True, "partial_checkpointing": 2}),
    ],
    ids=["align", "instruct", "lora", "checkpointed", "partly checkpointed"],
)
def test_a_trace_counts_what_a_real_step_computes_and_holds(
    checkpoint: Path, tmp_path: Path, components: dict, changes: dict
) -> None:
    recipe = recipe_of(checkpoint, components, **changes)
    step = traced(recipe)
    flops, peak = real_step(recipe, tmp_path)
    attention = sum(totals.flops for key, totals in step.operators.items() if "for_cpu" in key.name)
    assert step.flops - attention == flops  # torch's own counter does not know attention on a CPU
    assert attention > 0
    assert step.peak.total == pytest.approx(peak, rel=0.05)


def test_checkpointing_keeps_less_and_computes_more(checkpoint: Path) -> None:
    whole, half, none = (
        traced(recipe_of(checkpoint, INSTRUCT, **changes))
        for changes in (
            {"gradient_checkpointing": True},
            {"gradient_checkpointing": True, "partial_checkpointing": 2},
            {},
        )
    )
    assert whole.peak.total < half.peak.total < none.peak.total
    assert whole.flops > half.flops > none.flops


def test_accumulated_gradients_are_held_and_every_micro_step_counts(checkpoint: Path) -> None:
    one, two = (traced(recipe_of(checkpoint, INSTRUCT, gradient_accumulation_steps=n)) for n in (1, 2))
    assert two.flops == 2 * one.flops
    assert two.peak.total > one.peak.total


def test_sharding_divides_what_lasts_and_gathers_what_is_used(checkpoint: Path) -> None:
    recipe = recipe_of(checkpoint, INSTRUCT)
    alone, sharded = traced(recipe), traced(recipe, backend="fsdp2", num_gpus=8)
    assert sharded.peak.optimizer == pytest.approx(alone.peak.optimizer / 8, rel=0.05)
    assert sharded.flops == alone.flops
    weights = 4 * sum(p.numel() for p in OpenLlavaForConditionalGeneration(make_config()).parameters())
    gathered = sharded.communicated["c10d._allgather_base_"]
    assert weights < gathered < 6 * weights
    assert "c10d._reduce_scatter_base_" in sharded.communicated
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("changes", [{}, {"gradient_checkpointing": True}], ids=["kept", "checkpointed"])
def test_a_trace_of_two_ranks_sends_what_two_real_processes_send(
    checkpoint: Path, tmp_path: Path, changes: dict
) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(values_of(checkpoint, INSTRUCT, **changes)))
    (tmp_path / "data.json").write_text(json.dumps(asdict(DATA)))
    command = [sys.executable, "-m", "distributed.sharded_step"]
    environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    logs = [tmp_path / f"log_{rank}.txt" for rank in range(2)]
    processes = [Forked([*command, str(rank), str(tmp_path)], environment, log) for rank, log in enumerate(logs)]
    try:
        wait_for_all(processes, timeout=300)
    finally:
        for process in processes:
            process.kill()
    assert [process.poll() for process in processes] == [0, 0], "".join(log.read_text()[-3000:] for log in logs)
    real = [json.loads((tmp_path / f"collectives_{rank}.json").read_text()) for rank in range(2)]
    step = traced(recipe_of(checkpoint, INSTRUCT, **changes), backend="fsdp2", num_gpus=2)
    fake = sorted([k.name, t.calls, t.bytes] for k, t in step.operators.items() if k.kind == "communication")
    assert any("allgather" in name for name, *_ in fake)
    assert real == [fake, fake]


def test_four_bits_take_half_a_byte_a_weight(checkpoint: Path) -> None:
    plain = recipe_of(checkpoint, ALIGN)
    quantized = recipe_of(checkpoint, {**ALIGN, "language_model": {"mode": "frozen", "quantization": "nf4"}})
    before, after = traced(plain), traced(quantized)
    linear = 4 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 96)  # weights of four layers: q, o; k, v; gate, up, down
    assert before.peak.weights - after.peak.weights == pytest.approx(linear * (4 - 0.516), rel=0.02)


def test_a_step_that_reads_a_value_is_refused_and_its_line_named(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reading(traced_step._Tracer):
        def compute_loss(self, *args, **kwargs):
            loss = super().compute_loss(*args, **kwargs)
            assert loss.item() > 0
            return loss

    monkeypatch.setattr(traced_step, "_Tracer", Reading)
    file = tmp_path / "recipe.yaml"
    values = {"stage": "instruct", "model_name_or_path": str(checkpoint), "attn_implementation": "sdpa", **INSTRUCT}
    file.write_text(yaml.safe_dump(values | {"packed": False, "report_to": "none"}))
    line = Reading.compute_loss.__code__.co_firstlineno + 2
    with pytest.raises(RecipeError, match=rf"test_traced_step.py:{line} .*compute_loss.*assert loss.item\(\) > 0"):
        dry_run(file, [], backend="single_gpu", num_gpus=1)


@pytest.mark.parametrize("read", [lambda x: bool((x > 0).any()), lambda x: x[x > 0], lambda x: x.tolist()])
def test_every_way_to_read_a_value_is_refused(read: Callable[[torch.Tensor], object]) -> None:
    with pytest.raises(RecipeError, match="waits for the device"), refuse_reads(), FakeTensorMode():
        read(torch.ones(3))


def test_operators_are_counted_with_their_bytes() -> None:
    with OperatorCounter() as counter:
        product = torch.ones(2, 3) @ torch.ones(3, 4)
        product.mul_(2)
        product[0].reshape(2, 2)
    key = OperatorKey("aten.mm", "matrix products", 4)
    assert counter.totals[key] == OperatorTotals(calls=1, flops=48, bytes=4 * (6 + 12 + 8))
    assert counter.totals[OperatorKey("aten.mul_", "element-wise", 4)].bytes == 2 * 4 * 8  # read and written over
    assert not any("view" in key.name or "select" in key.name for key in counter.totals)


def test_bytes_are_alive_from_the_first_view_to_the_last() -> None:
    live = LiveBytes()
    weight = nn.Parameter(torch.ones(10))
    live.add([weight], "weights")
    with live:
        product = weight * 2
        view = product[:5]
        del product
        assert live.now.activations == 40
        del view
        assert live.now.activations == 0
    assert (live.peak.weights, live.peak.activations, live.peak.total) == (40, 40, 80)


def test_a_bound_is_the_longer_of_operations_and_bytes() -> None:
    products = {OperatorKey("aten.mm", "matrix products", 2): OperatorTotals(1, int(8e12), int(3e9))}
    assert bound_time(products, H100).computing == pytest.approx(8e12 / (989e12 * 0.8))
    moved = {OperatorKey("aten.mul", "element-wise", 2): OperatorTotals(1, 0, int(3e9))}
    assert bound_time(moved, H100).computing == pytest.approx(3e9 / (3.35e12 * 0.9))
    sent = {OperatorKey("c10d._allgather_base_", "communication", 2): OperatorTotals(1, 0, int(8e9))}
    assert bound_time(sent, H100, num_gpus=8).total == pytest.approx(7e9 / 450e9)
