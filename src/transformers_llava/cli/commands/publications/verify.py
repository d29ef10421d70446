"""Run `llava verify`: say what can be proven about a publication, and what cannot."""

import argparse
from pathlib import Path
from typing import Any

from transformers_llava.cli.commands.publications.publication_arguments import (
    add_publication,
    bases_of,
    open_publication,
)


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "verify",
        help="check a publication: files, recipe, licenses, data, and training again",
        description="Checks level by level and says each finding by name. Exit status 0: nothing failed; "
        "1: something did.",
        epilog="Example: llava verify me/llava-mine --revision v-0123456789abcdef0123456789abcdef",
        allow_abbrev=False,
    )
    add_publication(parser)
    parser.add_argument(
        "--expect", metavar="DIGEST", help="the manifest's digest or tag (32 digits or more), from somewhere you trust"
    )
    parser.add_argument("--retrained", metavar="FOLDER", help="what was trained again: levels L3 and L4")
    parser.add_argument("--public_key", metavar="FILE", help="check the signature with this key")
    parser.add_argument(
        "--allow_remote_data",
        action="store_true",
        help="read data and images from the addresses that the publication names (default: no request is made)",
    )
    parser.add_argument(
        "--allow_dataset_folders",
        action="store_true",
        help="let `datasets` read folders of the publication, whose own files name what else it opens",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from transformers_llava.cli.extras import require_extra

    require_extra("hub", "`llava verify`")
    import sys

    from transformers_llava.cli.errors import CommandError
    from transformers_llava.hub.verification.expectation import ExpectationError, Expected
    from transformers_llava.hub.verification.verify import verify

    bases = bases_of(args)
    for name in ("data_root", "retrained"):
        folder_of_user = getattr(args, name)
        if folder_of_user is not None and not Path(folder_of_user).is_dir():
            raise CommandError(f"--{name} {folder_of_user!r} is no folder, so nothing can be compared with it.")
    try:
        Expected().and_digest(args.expect)  # before anything is fetched
        folder, expected = open_publication(args)
        expected = expected.and_digest(args.expect)
    except ExpectationError as error:
        raise CommandError(str(error)) from error
    report = verify(
        folder,
        expected=expected,
        data_root=args.data_root,
        bases=bases,
        retrained=args.retrained,
        public_key=args.public_key,
        allow_remote_data=args.allow_remote_data,
        allow_dataset_folders=args.allow_dataset_folders,
        progress=lambda what: print(f"checking {what} ...", file=sys.stderr),
    )
    print(report)
    return 0 if report.passed else 1
