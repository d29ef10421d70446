"""Run `llava publish`: send a checkpoint to the Hub with everything that others need to check and rebuild it."""

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "publish",
        help="send a checkpoint to the Hub, with card, mixture, recipe and licenses",
        description="Prints the plan: files, sizes, digests, the card's changes, licenses. Sends it only with "
        "--yes: one commit, verified where it lies, then tagged with the digest of its manifest. Stopped and started "
        "again, it goes on.",
        epilog="Example: llava publish output/instruct me/llava-mine --facts card.yaml --yes",
        allow_abbrev=False,
    )
    parser.add_argument("directory", metavar="DIRECTORY", help="what `llava train` has saved")
    parser.add_argument("repo_id", metavar="REPO_ID", help="OWNER/NAME on the Hub")
    parser.add_argument("--yes", action="store_true", help="send it")
    parser.add_argument("--facts", metavar="FILE", help="card.yaml: what only a user can say of the model")
    parser.add_argument(
        "--layout",
        choices=("builtin", "open_llava"),
        help="builtin: loads with plain transformers (default where that fits); open_llava: needs this package",
    )
    parser.add_argument(
        "--self_contained", action="store_true", help="also send data and base models that are not on the Hub"
    )
    parser.add_argument(
        "--replay_from", metavar="FOLDER", help="a checkpoint-N of the run, for `llava reproduce --replay`"
    )
    parser.add_argument(
        "--pull_request", action="store_true", help="through a pull request, merged once it is verified"
    )
    foreign = parser.add_mutually_exclusive_group()
    foreign.add_argument(
        "--replace", action="store_true", help="remove files of others that would not verify, in the same commit"
    )
    foreign.add_argument(
        "--keep_foreign", action="store_true", help="leave such files there and record them as not ours"
    )
    parser.add_argument("--private", action="store_true", help="a new repository is private")
    parser.add_argument(
        "--allow_incomplete", action="store_true", help="publish with gaps in the card; recorded as such"
    )
    parser.add_argument("--no_check", action="store_true", help="do not fetch and load it before it is tagged")
    parser.add_argument("--sign", metavar="KEY", help="private EC key (PEM) to sign it with")
    parser.add_argument("--output", metavar="FOLDER", help="keep the publication in this folder as well")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from transformers_llava.cli.extras import require_extra

    require_extra("hub", "`llava publish`")
    import tempfile

    from huggingface_hub.errors import HTTPError

    from transformers_llava.cli.errors import CommandError
    from transformers_llava.cli.failures import explain_user_error

    with tempfile.TemporaryDirectory(prefix="llava_publish") as scratch:
        try:
            return _publish(args, args.output or f"{scratch}/publication")
        except (ValueError, OSError) as error:  # HfHubHTTPError, what the Hub answers, is an OSError
            raise CommandError(explain_user_error(error)) from error
        except HTTPError as error:  # of the line, where nothing was answered
            raise CommandError(
                f"the Hub did not answer ({type(error).__name__}: {error}). What lies there is as before, or one "
                "whole commit without a tag. Look at the network, and run the same command again."
            ) from error


def _publish(args: argparse.Namespace, folder: str) -> int:
    from huggingface_hub import HfApi

    from transformers_llava.hub.publication.stage import stage_publication
    from transformers_llava.hub.upload.plan import WithForeign, plan_publication
    from transformers_llava.hub.upload.publish import publish

    api = HfApi(library_name="transformers-llava")
    publication = stage_publication(
        args.directory,
        args.repo_id,
        folder,
        layout=args.layout,
        facts=args.facts,
        self_contained=args.self_contained,
        replay_from=args.replay_from,
        allow_incomplete=args.allow_incomplete,
        key=args.sign,
    )
    with_foreign: WithForeign = "replace" if args.replace else "keep" if args.keep_foreign else "refuse"
    plan = plan_publication(publication, args.repo_id, api, with_foreign=with_foreign, key=args.sign)
    print(plan)
    if not args.yes:
        print("\nThis was the plan; nothing was sent. Add --yes to send it.")
        return 1 if plan.blockers or plan.question is not None else 0
    tag = publish(
        plan,
        api,
        private=args.private,
        pull_request=args.pull_request,
        check_download=not args.no_check,
        say=lambda what: print(what, flush=True),
    )
    print(f"\npublished: {args.repo_id}@{tag}\nAnybody can check it: llava verify {args.repo_id} --revision {tag}")
    return 0
