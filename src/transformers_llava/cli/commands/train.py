"""`llava train`: one stage of training from a recipe."""

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train one stage from a recipe",
        description="Train one stage. Any field of the recipe is also a flag: `--learning_rate 1e-3`, "
        "`--language_model.mode lora`, `--strict`, `--resume`.",
        epilog="`llava recipes ls` lists the recipes, `llava recipes fields` every field.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="NAME|FILE", help="packaged recipe or YAML file")
    parser.add_argument(
        "--accelerate_config", metavar="NAME|FILE", help="cpu, single_gpu, ddp or a file; default: fits this machine"
    )
    parser.add_argument("--num_processes", type=int, help="instead of the accelerate configuration's")
    parser.add_argument("--print_command", action="store_true", help="print what would run, and do not run it")
    parser.set_defaults(run=run, takes_fields=True)


def run(args: argparse.Namespace) -> int:
    import shlex

    from transformers_llava.cli.launching import launch_training, training_command
    from transformers_llava.cli.packaged import recipe_path

    recipe = recipe_path(args.config)
    if args.print_command:
        print("$ " + shlex.join(training_command(recipe, args.fields, args.accelerate_config, args.num_processes)))
        return 0
    return launch_training(recipe, args.fields, args.accelerate_config, args.num_processes)
