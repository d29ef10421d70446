"""The planner counts on what was measured where it was, and says so; elsewhere it assumes, and says that."""

import json
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness import performance_page, traced_plans
from transformers_llava.packaged import file_or_packaged
from transformers_llava.training.estimate.dry_run import ASSUMED_MFU, Plan, format_plan, make_plan
from transformers_llava.training.estimate.gpus import GPUS, find_gpu
from transformers_llava.training.estimate.measured import MEASURED_FILE, MeasuredShare, find_share, read_measured
from transformers_llava.training.recipe.recipe import Recipe
from transformers_llava.training.recipe.recipe_file import apply_flags, read_recipe


SHARE = MeasuredShare("NVIDIA H200", 2, 0.5, "packed", "2026-12-01", "python -m benchmarks.gpu.training", "a/b.json")


def plan_of(recipe: str, backend: str = "fsdp2") -> Plan:
    values = apply_flags(read_recipe(file_or_packaged("recipe", recipe)), [])
    values |= {"bf16": False, "fp16": False, "use_cpu": True, "output_dir": "output"}
    return make_plan(Recipe.from_dict(values), backend=backend, num_gpus=8)


def test_without_a_measurement_the_page_says_that_it_assumes() -> None:
    page = format_plan(plan_of("llava-v1.5/7b/2_instruct"), [])
    assert f"hours at {ASSUMED_MFU:.0%} of the peak (an assumption: nothing was measured on a GPU yet)" in page
    assert "measured 20" not in page


def test_a_measured_share_is_used_for_its_card_and_stage_and_named() -> None:
    plan = plan_of("llava-v1.5/7b/2_instruct")
    useful = plan.flops.useful * plan.num_steps * plan.global_batch
    assert plan.hours(find_gpu("H200 141 GB"), SHARE) == useful / (8 * 989e12 * 0.5) / 3600
    page = format_plan(plan, [SHARE])
    line = next(line for line in page.splitlines() if "H200" in line)
    assert "at 50.0%, measured 2026-12-01 on one NVIDIA H200: 'packed' in a/b.json" in line
    assert "measured 2026" not in next(line for line in page.splitlines() if "A100 80 GB" in line and " x " in line)


def test_stages_and_cards_are_not_mixed_up() -> None:
    assert plan_of("llava-v1.5/7b/1_align").stage == 1
    assert find_share([SHARE], find_gpu("H200 141 GB"), 1) is None
    assert find_share([SHARE], find_gpu("H100 80 GB"), 2) is None
    assert find_share([SHARE], find_gpu("H200 141 GB"), 2) == SHARE


def test_the_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    assert read_measured(file) == []
    file.write_text(json.dumps([asdict(SHARE)]))
    assert read_measured(file) == [SHARE]


def test_the_planner_reads_what_the_performance_page_writes() -> None:
    assert performance_page.MEASURED == MEASURED_FILE


def test_the_page_of_traced_plans_is_of_both_stages_of_both_sizes() -> None:
    """Of the steps and memory it says what a plan by formula says too; tracing all four again would take a minute."""
    page = traced_plans.PAGE.read_text()
    assert page.startswith(traced_plans.HEADER)
    for size in traced_plans.PUBLISHED:
        for stage, backend in traced_plans.STAGES.items():
            section = page.partition(f"\n## llava-v1.5/{size}/{stage}\n")[2].partition("\n## ")[0]
            plan = plan_of(f"llava-v1.5/{size}/{stage}", backend)
            steps = f"{plan.num_steps:,} of {plan.global_batch} examples on 8 GPU(s), {backend}"
            assert steps in section
            assert f"per example   {plan.flops.computed / 1e12:.2f} TFLOP" in section


def test_cards_of_one_model_have_one_peak_and_names_of_their_own() -> None:
    assert len({str(gpu) for gpu in GPUS}) == len(GPUS)
    assert len({(gpu.model, gpu.peak) for gpu in GPUS}) == len({gpu.model for gpu in GPUS})
    assert [str(gpu) for gpu in GPUS if gpu.model == "A100"] == ["A100 40 GB", "A100 80 GB"]
