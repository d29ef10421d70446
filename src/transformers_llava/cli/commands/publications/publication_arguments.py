"""Parse the arguments that name a publication, and open it."""

import argparse
from pathlib import Path
from typing import Any


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


def open_publication(args: argparse.Namespace) -> tuple[Path, Any]:
    """A folder that holds it, and what its manifest has to be (an `Expected`, for `verify`)."""
    from huggingface_hub import HfApi

    from transformers_llava.cli.errors import CommandError
    from transformers_llava.hub.upload.remote import fetch_publication
    from transformers_llava.hub.verification.expectation import Expected

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
