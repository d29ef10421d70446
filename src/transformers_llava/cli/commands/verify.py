"""Run `llava verify`: what can be proven about a publication, and what cannot."""

import argparse
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "verify",
        help="check a publication: files, recipe, licences, data, and training again",
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


def add_publication(parser: argparse.ArgumentParser) -> None:
    """What `verify` and `reproduce` both take."""
    parser.add_argument("publication", metavar="REPO_ID|FOLDER", help="a repository of the Hub, or a folder")
    parser.add_argument(
        "--revision",
        metavar="TAG|COMMIT",
        help="of the repository (default: main); a tag `v-...` is also what the manifest has to be, as --expect",
    )
    parser.add_argument("--data_root", metavar="FOLDER", help="where data lie that the publication does not hold")
    parser.add_argument(
        "--base",
        action="append",
        default=[],
        metavar="ROLE=FOLDER",
        help="a base model that it does not hold, such as language_model=vicuna-7b",
    )


def run(args: argparse.Namespace) -> int:
    from transformers_llava.cli.extras import require_extra

    require_extra("hub", "`llava verify`")
    import sys

    from transformers_llava.cli.errors import CommandError
    from transformers_llava.hub.expectations import ExpectationError, Expected
    from transformers_llava.hub.verification import verify

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


def open_publication(args: argparse.Namespace) -> tuple[Path, Any]:
    """A folder that holds it, and what its manifest has to be (an `Expected`, for `verify`)."""
    from huggingface_hub import HfApi

    from transformers_llava.cli.errors import CommandError
    from transformers_llava.hub.expectations import Expected
    from transformers_llava.hub.remote import fetch_publication

    if Path(args.publication).is_dir():
        if args.revision is not None:
            raise CommandError(
                f"{args.publication!r} is a folder here, and --revision {args.revision} names a commit of a "
                "repository. Use --expect for the digest of a folder, or rename the folder."
            )
        return Path(args.publication), Expected()
    try:
        return fetch_publication(HfApi(library_name="transformers-llava"), args.publication, args.revision)
    except ValueError as error:  # a `RemoteError`, which names the repository and says what helps
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{args.publication!r} cannot be fetched: {error}") from error


def bases_of(args: argparse.Namespace) -> dict[str, str]:
    """`--base role=folder`, as a dictionary."""
    from transformers_llava.cli.errors import CommandError

    bases = {}
    for given in args.base:
        role, separator, folder = given.partition("=")
        if not separator or not Path(folder).is_dir():
            raise CommandError(f"--base {given!r} should be ROLE=FOLDER, with a folder that exists.")
        bases[role] = folder
    return bases
