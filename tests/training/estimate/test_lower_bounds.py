"""Both stages of the 7B fit on one consumer card: the recipes for it, traced at their own shapes."""

from dataclasses import replace

from transformers_llava.packaged import packaged_file
from transformers_llava.training.estimate.memory import RUNTIME
from transformers_llava.training.estimate.recipe_shapes import DataShape, plan_config, plan_data
from transformers_llava.training.estimate.trace.step import trace_step
from transformers_llava.training.estimate.trace.traced_step import TracedStep
from transformers_llava.training.recipe.recipe import Recipe
from transformers_llava.training.recipe.recipe_file import read_recipe


CARD = 10e9  # bytes


def recipe_of(name: str) -> Recipe:
    return Recipe.from_dict(read_recipe(packaged_file("recipe", name)) | {"use_cpu": True, "output_dir": "unused"})


def data_of(recipe: Recipe) -> DataShape:
    return plan_data(recipe, plan_config(recipe.model))


def traced_alone(recipe: Recipe, data: DataShape) -> TracedStep:
    return trace_step(recipe, data, backend="single_gpu", num_gpus=1)


def test_stage_1_in_four_bits_fits_in_10_gb() -> None:
    recipe = recipe_of("llava-v1.5/7b/1_align_10gb")
    traced = traced_alone(recipe, data_of(recipe))
    assert traced.peak.total + RUNTIME < CARD
    assert traced.num_tokens == 8 * 596


def test_qlora_fits_in_10_gb_also_with_the_largest_pack_that_max_length_allows() -> None:
    """
    A pack never holds less than one example. The largest one is text alone of `max_length` tokens, all supervised,
    beside the image that the collator puts before a pack without any; mean examples take 2 GB less.
    """
    recipe = recipe_of("llava-v1.5/7b/2_instruct_qlora_10gb")
    longest = recipe.data.max_length
    assert (longest, recipe.sft.per_device_train_batch_size) == (2048, 1)
    data = replace(data_of(recipe), text_tokens=longest, label_tokens=longest, image_share=0.0)
    traced = traced_alone(recipe, data)
    assert traced.num_tokens == 2048 + 576
    assert traced.peak.total + RUNTIME < CARD
