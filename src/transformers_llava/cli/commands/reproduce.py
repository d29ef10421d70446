"""`llava reproduce`: a publication trained again from nothing but itself, and compared with what was published."""

import argparse
from typing import Any

from transformers_llava.cli.errors import CommandError


def add_parser(subparsers: Any) -> None:
    from transformers_llava.cli.commands.verify import add_publication

    parser = subparsers.add_parser(
        "reproduce",
        help="train a published checkpoint again from what was published, and compare",
        description="Runs every stage of `recipe/` in OUTPUT and compares the tensors. Exit status 0: identical, "
        "or within tolerance; 1: neither.",
        epilog="Example: llava reproduce me/llava-mine again",
        allow_abbrev=False,
    )
    add_publication(parser)
    parser.add_argument("output", metavar="OUTPUT", help="folder to work in; empty or absent")
    parser.add_argument(
        "--replay", action="store_true", help="only the rest of the last stage, from the checkpoint that was published"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from transformers_llava.cli.extras import require_extra

    require_extra("hub", "`llava reproduce`")
    require_extra("train", "`llava reproduce`")
    from transformers_llava.cli.commands.verify import bases_of, open_publication
    from transformers_llava.hub.reproducing import reproduce
    from transformers_llava.hub.verification import verify

    folder, tag = open_publication(args)
    try:
        retrained = reproduce(
            folder,
            args.output,
            data_root=args.data_root,
            bases=bases_of(args),
            replay=args.replay,
            say=lambda what: print(what, flush=True),
        )
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from error
    report = verify(folder, expected=tag, data_root=args.data_root, bases=bases_of(args), retrained=retrained)
    print(report)
    return 0 if report.passed else 1
