"""Run `llava train`: train one stage from a recipe, or plan it."""

import argparse
from pathlib import Path
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
        "--accelerate_config",
        metavar="NAME|FILE",
        help="cpu, single_gpu, ddp, fsdp2, zero2, zero3 or a file; default: fits this machine",
    )
    parser.add_argument(
        "--num_processes",
        type=int,
        metavar="N",
        help="instead of the accelerate configuration's; with --dry_run the GPUs to plan for (default: 8)",
    )
    parser.add_argument(
        "--num_machines", type=int, default=1, metavar="N", help="start the same command on each (default: 1)"
    )
    parser.add_argument("--machine_rank", type=int, default=0, metavar="N", help="which machine this is, from 0")
    parser.add_argument("--main_process_ip", metavar="ADDRESS", help="address of machine 0")
    parser.add_argument(
        "--main_process_port", type=int, default=29500, metavar="PORT", help="port of machine 0 (default: 29500)"
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="say what it would train, hold, compute and take; from shapes alone"
    )
    parser.add_argument("--print_command", action="store_true", help="print what would run, and do not run it")
    parser.set_defaults(run=run, takes_fields=True)


def run(args: argparse.Namespace) -> int:
    from transformers_llava.cli.accelerate_launch import launch_training, training_command
    from transformers_llava.packaged import file_or_packaged

    recipe, machines = file_or_packaged("recipe", args.config), _machines(args)
    if args.dry_run:
        return _dry_run(args, recipe)
    _check_fields(recipe, args.fields)
    settings = (recipe, args.fields, args.accelerate_config, args.num_processes, machines)
    if args.print_command:
        print(f"$ {training_command(*settings)}")
        return 0
    return launch_training(*settings)


def _machines(args: argparse.Namespace) -> Any:
    from transformers_llava.cli.accelerate_launch import Machines
    from transformers_llava.cli.errors import CommandError

    if args.num_machines < 1 or (args.num_processes is not None and args.num_processes < 1):
        raise CommandError(
            f"--num_processes {args.num_processes} and --num_machines {args.num_machines} must be 1 or more, for else "
            "nothing would train."
        )
    if args.num_machines == 1:
        if args.machine_rank != 0 or args.main_process_ip is not None:
            raise CommandError(
                f"--machine_rank {args.machine_rank} and --main_process_ip {args.main_process_ip!r} mean nothing on "
                "one machine, and each machine would train alone. Say how many there are with --num_machines."
            )
        return None
    if not 1 <= args.main_process_port <= 65535:
        raise CommandError(f"--main_process_port {args.main_process_port} is no port. Use one from 1 to 65535.")
    if not args.main_process_ip:
        raise CommandError(
            f"--num_machines {args.num_machines} needs --main_process_ip, the address of machine 0, where the others "
            "find it."
        )
    return Machines(args.num_machines, args.machine_rank, args.main_process_ip, args.main_process_port)


def _check_fields(recipe: Path, fields: list[str]) -> None:
    """What is no recipe, or no flag, is said here and not by each process of a training that then ends."""
    from transformers_llava.cli.errors import CommandError
    from transformers_llava.training.recipe.recipe_error import RecipeError
    from transformers_llava.training.recipe.recipe_file import apply_flags, read_recipe

    try:
        apply_flags(read_recipe(recipe), fields)
    except RecipeError as error:
        raise CommandError(str(error)) from error


def _dry_run(args: argparse.Namespace, recipe: Path) -> int:
    """Eight GPUs unless told otherwise: what the published recipes ran on."""
    from transformers_llava.cli.accelerate_launch import backend_of, default_accelerate_config
    from transformers_llava.cli.errors import CommandError
    from transformers_llava.cli.extras import require_extra

    require_extra("train", "`llava train`")
    num_gpus = args.num_processes or 8
    chosen = args.accelerate_config
    backend = backend_of(default_accelerate_config(recipe, num_gpus, args.fields) if chosen is None else chosen)
    from transformers_llava import register
    from transformers_llava.training.estimate.dry_run import dry_run

    register()
    try:
        print(dry_run(recipe, args.fields, backend=backend, num_gpus=num_gpus), end="")
    except ValueError as error:  # a recipe that cannot be run, or a configuration of a model that cannot be built
        raise CommandError(str(error)) from error
    return 0
