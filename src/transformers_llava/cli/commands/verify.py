"""`llava verify`: what can be proven about a publication, and what can not."""

import argparse
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "verify",
        help="check a publication: files, recipe, licences, data, and training again",
        description="Checks level by level and says each finding by name. Exit status 0: nothing failed; "
        "1: something did.",
        epilog="Example: llava verify me/llava-mine --revision v-0123456789ab",
        allow_abbrev=False,
    )
    add_publication(parser)
    parser.add_argument("--expect", metavar="DIGEST", help="the manifest's digest or tag, from somewhere you trust")
    parser.add_argument("--retrained", metavar="FOLDER", help="what was trained again: levels L3 and L4")
    parser.add_argument("--public_key", metavar="FILE", help="check the signature with this key")
    parser.set_defaults(run=run)


def add_publication(parser: argparse.ArgumentParser) -> None:
    """What `verify` and `reproduce` both take."""
    parser.add_argument("publication", metavar="REPO_ID|FOLDER", help="a repository of the Hub, or a folder")
    parser.add_argument("--revision", metavar="TAG|COMMIT", help="of the repository (default: main)")
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

    from transformers_llava.hub.verification import verify

    folder, tag = open_publication(args)
    report = verify(
        folder,
        expected=args.expect or tag,
        data_root=args.data_root,
        bases=bases_of(args),
        retrained=args.retrained,
        public_key=args.public_key,
        progress=lambda what: print(f"checking {what} ...", file=sys.stderr),
    )
    print(report)
    return 0 if report.passed else 1


def open_publication(args: argparse.Namespace) -> tuple[Path, str | None]:
    """A folder that holds it, and the tag of the commit it was fetched at."""
    from huggingface_hub import HfApi, snapshot_download

    from transformers_llava.cli.errors import CommandError
    from transformers_llava.hub.remote import read_remote, tag_of

    if Path(args.publication).is_dir():
        return Path(args.publication), None
    try:
        state = read_remote(HfApi(library_name="transformers-llava"), args.publication, args.revision)
        if state.head is None:
            raise CommandError(f"{args.publication!r} is neither a folder nor a repository that can be reached.")
        folder = Path(snapshot_download(args.publication, revision=state.head))
        return folder, tag_of(state, folder)
    except (OSError, ValueError) as error:
        raise CommandError(f"{args.publication!r} can not be fetched: {error}") from error


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
