"""Run the `llava` command: one screen of parser, and one module per command, imported only when it runs."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from transformers_llava.cli.errors import CommandError
from transformers_llava.cli.failures import USER_MISTAKE, describe_failure, wants_traceback


# Contract: the module that `module_of` names has `add_parser(subparsers)`, which sets the defaults `run`
# (a function of the parsed arguments that returns the exit status or None) and, where flags that the parser does not
# know are fields of a recipe, `takes_fields=True`; they are then in `args.fields`.
COMMANDS = {
    "demo": "the whole chain on this machine's CPU, in minutes",
    "train": "train one stage from a recipe",
    "convert": "convert a checkpoint: original, LoRA, projector, llava-hf; and to the built-in layout",
    "data": "lock and verify the data of a mixture, and say where to fetch it",
    "serve": "answer over HTTP, as OpenAI's API does",
    "evaluate": "ask a model what benchmarks ask, score its answers, and explain a gap",
    "inspect": "look at data, templates and models",
    "publish": "send a checkpoint to the Hub, with card, mixture, recipe and licenses",
    "verify": "check a publication: files, recipe, licenses, data, and training again",
    "reproduce": "train a published checkpoint again, and compare",
    "recipes": "list, show and copy the packaged recipes",
    "env": "versions and hardware, for a bug report",
}


_OF_PUBLICATIONS = ("publish", "verify", "reproduce")

# They register the model themselves where they need it, so that they answer before torch is imported.
WITHOUT_MODEL = ("train", "data", "recipes", "env")


def module_of(name: str) -> str:
    """The module of a command."""
    folder = "publications." if name in _OF_PUBLICATIONS else ""
    return f"transformers_llava.cli.commands.{folder}{name}"


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command.

    Returns:
        `int`: The exit status: 0; 1 for findings (`verify`, `reproduce`, parity); 2 for a mistake; 3 for a failure
        that nobody foresaw; 130 for Ctrl-C. What failed is one message on standard error, and a traceback only with
        `LLAVA_TRACEBACK=1`.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(argv[0] if argv else None)
    args, unknown = parser.parse_known_args(argv)
    if not hasattr(args, "run"):
        parser.print_help()
        return 0 if not argv else 2
    if unknown and not getattr(args, "takes_fields", False):
        parser.error(f"unknown arguments: {' '.join(unknown)}; `llava {args.command} --help` lists the known ones")
    args.fields = unknown
    try:
        if args.command not in WITHOUT_MODEL:
            from transformers_llava import register

            register()
        return args.run(args) or 0
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (the interpreter flushes it once more when it ends)
        return 0
    except CommandError as error:
        print(f"llava {args.command}: {error}", file=sys.stderr)
        return USER_MISTAKE
    except (Exception, KeyboardInterrupt) as error:
        if wants_traceback():
            raise
        text, status = describe_failure(error, args.command)
        print(text, file=sys.stderr)
        return status


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llava", description="LLaVA, native to today's Hugging Face stack.", allow_abbrev=False
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, description in COMMANDS.items():
        if name == chosen:
            importlib.import_module(module_of(name)).add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=description)
    return parser


if __name__ == "__main__":
    sys.exit(main())
