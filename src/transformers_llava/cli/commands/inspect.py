"""Run `llava inspect`: show what a run would read, how a chat template is written, what a model is made of."""

import argparse
from typing import Any

from transformers_llava.cli.errors import CommandError


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("inspect", help="look at data, templates and models", allow_abbrev=False)
    subjects = parser.add_subparsers(dest="subject", required=True, metavar="SUBJECT")
    data = subjects.add_parser(
        "data",
        help="the mixture of a recipe, its packs, and some examples with their supervised tokens in green",
        description="Takes a recipe and its fields as `llava train` does, reads the data, and trains nothing.",
        allow_abbrev=False,
    )
    data.add_argument("--config", required=True, metavar="NAME|FILE", help="packaged recipe or YAML file")
    data.add_argument("--show", type=int, default=3, metavar="N", help="examples to print (default: 3)")
    data.add_argument("--plot", metavar="FILE.png", help="histograms of lengths and image sizes; needs matplotlib")
    data.set_defaults(run=_data, takes_fields=True)
    template = subjects.add_parser("template", help="print a packaged chat template")
    template.add_argument("name", metavar="NAME", help="such as vicuna_v1")
    template.set_defaults(run=_template)
    model = subjects.add_parser("model", help="the components of a checkpoint, from its configuration")
    model.add_argument("model", metavar="FOLDER|REPO_ID")
    model.set_defaults(run=_model)


def _data(args: argparse.Namespace) -> None:
    from transformers_llava.cli.extras import require_extra

    require_extra("train", "`llava inspect data`")
    from transformers_llava.data.inspection import (
        describe_rejections,
        image_sizes,
        plot_histograms,
        render_example,
        rows_to_show,
    )
    from transformers_llava.data.tokens.encoding import encode_example
    from transformers_llava.packaged import file_or_packaged
    from transformers_llava.training.recipe.recipe import Recipe
    from transformers_llava.training.recipe.recipe_file import apply_flags, read_recipe
    from transformers_llava.training.recipe.resolve import resolve_recipe
    from transformers_llava.training.run_data.stored_data import prepare_data

    if args.show < 0:
        raise CommandError(f"--show {args.show} is no number of examples. Use 0 or more.")
    try:
        recipe = Recipe.from_dict(apply_flags(read_recipe(file_or_packaged("recipe", args.config)), args.fields))
        processor = _processor(recipe)
        resolved = resolve_recipe(recipe)
        prepared = prepare_data(resolved, processor)
    except ValueError as error:  # also RecipeError, and a RecordError under --strict
        raise CommandError(str(error)) from error
    print(prepared.mixture.to_markdown())
    print("\n".join(describe_rejections(prepared.mixture)))
    for name, value in prepared.report.to_dict().items():
        print(f"{name}: {value}")
    if args.plot is not None:
        sizes = image_sizes(prepared.dataset)
        values: dict[str, list[float]] = {"tokens per example": [length.num_tokens for length in prepared.lengths]}
        if sizes:
            values |= {"width of images": [w for w, _ in sizes], "height of images": [h for _, h in sizes]}
        try:
            plot_histograms(values, args.plot)
        except (ValueError, OSError) as error:
            raise CommandError(str(error)) from error
        print(f"histograms written to {args.plot}")
    for example in prepared.dataset.select(rows_to_show(prepared.dataset["source"], args.show)):
        encoded = encode_example(example, processor, resolved.encoding_policy)
        print(f"\n--- {example['source']}/{example['id']}, {len(encoded.input_ids)} tokens")
        print(render_example(encoded, processor))


def _processor(recipe: Any) -> Any:
    from transformers_llava.artifacts.snapshots import explain_unreachable
    from transformers_llava.training.model.assembly import load_processor

    try:
        return load_processor(recipe.model)[1]
    except ValueError:
        raise
    except Exception as error:  # whatever the files of a checkpoint hold, and what the Hub's client says offline
        names = recipe.model.model_name_or_path or recipe.model.language_model_name_or_path
        raise CommandError(explain_unreachable(names, "the model", error)) from error


def _template(args: argparse.Namespace) -> None:
    from transformers_llava.chat_templates import list_chat_templates, load_chat_template

    try:
        source = load_chat_template(args.name)
    except ValueError as error:
        raise CommandError(f"{error} Known: {', '.join(list_chat_templates())}.") from error
    print(source)


def _model(args: argparse.Namespace) -> None:
    from transformers_llava.cli.extras import require_extra

    require_extra("train", "`llava inspect model`")
    import torch
    from transformers import AutoConfig

    from transformers_llava.artifacts.snapshots import explain_unreachable
    from transformers_llava.modeling.configuration_open_llava import OpenLlavaConfig
    from transformers_llava.modeling.modeling_open_llava import OpenLlavaForConditionalGeneration
    from transformers_llava.training.model.components import component_table, format_table
    from transformers_llava.training.recipe.configs import ComponentConfig
    from transformers_llava.training.recipe.recipe_file import COMPONENTS

    try:
        config = AutoConfig.from_pretrained(args.model)
    except Exception as error:  # whatever its config.json holds, and what the Hub's client says without a network
        raise CommandError(explain_unreachable(args.model, "the model", error)) from error
    if not isinstance(config, OpenLlavaConfig):
        raise CommandError(f"{args.model!r} is a {config.model_type!r}, not a LLaVA that is known here.")
    try:
        with torch.device("meta"):
            model = OpenLlavaForConditionalGeneration(config)
    except Exception as error:  # sizes and names that its config.json gives and that no layer can have
        raise CommandError(
            f"no model can be built from the config.json of {args.model!r} ({type(error).__name__}: {error}). Correct "
            "the value, or fetch the file again."
        ) from error
    components = {name: ComponentConfig(mode="full") for name in COMPONENTS}
    print(format_table(component_table(model, components, 0.0, 0.0)))
    rule = config.tiling_rule()
    print(f"\ntower cut to {len(_tower_layers(model))} of {config.vision_config.num_hidden_layers} layers")
    print(f"projector {config.projector_type}, {rule.tokens_per_tile} tokens a tile of {rule.tile_size} pixels")
    print(f"image_aspect_ratio {config.image_aspect_ratio}, image token id {config.image_token_id}")


def _tower_layers(model: Any) -> Any:
    tower = model.model.vision_tower
    return getattr(tower, "vision_model", tower).encoder.layers
