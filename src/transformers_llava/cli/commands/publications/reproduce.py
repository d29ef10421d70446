"""Run `llava reproduce`: train a publication again from nothing but itself, and compare with what was published."""

import argparse
from typing import Any

from transformers_llava.cli.errors import CommandError


def add_parser(subparsers: Any) -> None:
    from transformers_llava.cli.commands.publications.publication_arguments import add_publication

    parser = subparsers.add_parser(
        "reproduce",
        help="train a published checkpoint again from what was published, and compare",
        description="Verifies the publication, runs every stage of its recipe in OUTPUT and compares the tensors. Of "
        "the publication only settings and data are used: no code, no upload, no report, and no request without a "
        "flag. Exit status 0: identical, or within tolerance; 1: neither.",
        epilog="Example: llava reproduce me/llava-mine again",
        allow_abbrev=False,
    )
    add_publication(parser)
    parser.add_argument("output", metavar="OUTPUT", help="folder to work in; empty or absent")
    parser.add_argument(
        "--replay", action="store_true", help="only the rest of the last stage, from the checkpoint that was published"
    )
    for flag, meaning in (
        ("--allow_remote_data", "fetch data that the publication names on the Hub (hf://) or at http addresses"),
        ("--allow_base_download", "fetch base models that the publication names by their id on the Hub"),
        ("--allow_dataset_folders", "let `datasets` read folders of data, whose own files name what else it opens"),
    ):
        parser.add_argument(flag, action="store_true", help=meaning)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from transformers_llava.cli.extras import require_extra
    from transformers_llava.cli.failures import explain_user_error

    require_extra("hub", "`llava reproduce`")
    require_extra("train", "`llava reproduce`")
    from transformers_llava.cli.commands.publications.publication_arguments import bases_of, open_publication
    from transformers_llava.hub.reproduction.reproduce import reproduce
    from transformers_llava.hub.verification.verify import verify

    folder, expected = open_publication(args)
    bases = bases_of(args)
    try:
        reproduction = reproduce(
            folder,
            args.output,
            expected=expected,
            data_root=args.data_root,
            bases=bases,
            replay=args.replay,
            allow_remote_data=args.allow_remote_data,
            allow_base_download=args.allow_base_download,
            allow_dataset_folders=args.allow_dataset_folders,
            say=lambda what: print(what, flush=True),
        )
    except (ValueError, OSError) as error:
        raise CommandError(explain_user_error(error)) from error
    report = verify(
        folder,
        expected=expected,
        data_root=args.data_root,
        bases=bases,
        retrained=reproduction.checkpoint,
        allow_remote_data=args.allow_remote_data,
        allow_dataset_folders=args.allow_dataset_folders,
        run=reproduction.run,  # read once; `verify` proves that it is still the file that lies there
    )
    print(report)
    return 0 if report.passed else 1


__all__ = ["add_parser", "run"]
