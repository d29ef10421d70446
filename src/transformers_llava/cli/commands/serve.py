"""`llava serve`: the server of transformers, which then knows our checkpoints."""

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "serve",
        help="answer over HTTP, as OpenAI's API does",
        description="`transformers serve` with open_llava registered: an OpenAI-compatible server. Its own options, "
        "such as --port 8000 and --device cpu, are passed on.",
        epilog="Example: llava serve my-checkpoint --port 8000. It needs `pip install transformers-llava[serve]`.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="folder or Hub id to load and use for all requests")
    parser.set_defaults(run=run, takes_fields=True)


def run(args: argparse.Namespace) -> int:
    from transformers.cli.transformers import app

    import transformers_llava
    from transformers_llava.cli.errors import CommandError

    transformers_llava.register()
    try:
        app(args=["serve", args.model, *args.fields], prog_name="llava", standalone_mode=False)
    except ImportError as error:
        raise CommandError(f"{error}. Without it there is no server.") from error
    return 0
