"""Run `llava data`: lock what a mixture is made of, compare it with the lock, and say where to get it."""

import argparse
from pathlib import Path
from typing import Any

from transformers_llava.cli.errors import CommandError


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "data",
        help="lock and verify the data of a mixture, and say where to fetch it",
        description="MIXTURE is a YAML file or the name of a packaged mixture (`llava data ls`).",
        epilog="Example: llava data lock mine.yaml && llava data verify mine.yaml mixture.lock.json",
        allow_abbrev=False,
    )
    subjects = parser.add_subparsers(dest="subject", required=True, metavar="SUBJECT")
    lock = subjects.add_parser("lock", help="read the mixture and write mixture.lock.json", allow_abbrev=False)
    _add_mixture(lock)
    lock.add_argument("--output", default=".", metavar="FOLDER", help="where to write it (default: here)")
    lock.set_defaults(run=_lock)
    verify = subjects.add_parser(
        "verify",
        help="read the mixture and say what is not as it was locked, or published",
        description="Exit status 0: everything as recorded; 1: differences, one a line.",
        allow_abbrev=False,
    )
    _add_mixture(verify)
    verify.add_argument("lock", nargs="?", metavar="LOCK", help="mixture.lock.json; without it, published counts")
    verify.set_defaults(run=_verify)
    plan = subjects.add_parser(
        "download-plan",
        help="what to fetch from where: sizes, licenses, and what is here already",
        description="Fetches nothing: many of the files have terms that a user has to accept.",
        allow_abbrev=False,
    )
    _add_place(plan)
    plan.set_defaults(run=_download_plan)
    names = subjects.add_parser("ls", help="list the packaged mixtures")
    names.set_defaults(run=_list)


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mixture", metavar="MIXTURE", help="file, or name of a packaged mixture")
    parser.add_argument("--data_root", metavar="FOLDER", help="where its relative paths start")


def _add_mixture(parser: argparse.ArgumentParser) -> None:
    _add_place(parser)
    parser.add_argument("--image_root", metavar="FOLDER|ZIP|TAR", help="for sources that name none")
    parser.add_argument("--num_proc", type=int, metavar="N", help="workers (default: one per core)")
    parser.add_argument(
        "--model", metavar="FOLDER|REPO_ID", help="count tokens with its processor: needed for token budgets"
    )
    parser.add_argument("--max_length", type=int, metavar="N", help="longest example in tokens; with --model")


def _lock(args: argparse.Namespace) -> None:
    from transformers_llava.data.mixture.lock import write_lock

    config = _config(args)
    if not Path(args.output).is_dir():  # known before hours of reading, not after them
        raise CommandError(f"--output {args.output!r} is no folder, so no lock could be written. Make it first.")
    lock, report = _read(args, config)
    try:
        path = write_lock(lock, args.output)
    except OSError as error:
        raise CommandError(f"the lock cannot be written into {args.output!r}: {error}") from error
    print(report.to_markdown())
    print(f"order {lock['order_digest']}\nwritten to {path}")


def _verify(args: argparse.Namespace) -> int:
    from transformers_llava.cli.extras import require_extra

    require_extra("train", "`llava data verify`")
    from transformers_llava.data.mixture.lock import compare_locks, read_lock
    from transformers_llava.data.mixture.published_parts import compare_with_published

    config = _config(args)
    recorded = None
    if args.lock is not None:
        try:
            recorded = read_lock(args.lock)
        except ValueError as error:
            raise CommandError(str(error)) from error
    lock, report = _read(args, config, recheck_images=True)
    differences = []
    for source, counted in zip(config.sources, report.sources, strict=True):
        if source.parts:
            by_folder = any(part.image_folder is not None for part in source.parts)
            differences += compare_with_published(
                source.name, counted.num_read, counted.folders, source.parts, by_folder=by_folder
            )
    if recorded is not None:
        differences += compare_locks(recorded, lock)
    else:
        differences += [
            f"source {source.name!r}: {count:,} records are dropped as {reason}, for example "
            f"{source.examples[reason][0].record_id}: {source.examples[reason][0].message}"
            for source in report.sources
            for reason, count in sorted(source.dropped.items())
        ]
    for difference in differences:
        print(difference)
    if not differences:
        what = "as locked: the same examples in the same order" if recorded is not None else "complete"
        print(f"{report.num_used:,} examples, {what} ({lock['order_digest']})")
    return 1 if differences else 0


def _download_plan(args: argparse.Namespace) -> None:
    from transformers_llava.data.mixture.mixture_file import default_data_root

    config = _config(args)
    if args.data_root is not None and Path(args.data_root).is_file():
        raise CommandError(f"--data_root {args.data_root!r} is a file, and data lie in a folder. Name one.")
    root = Path(args.data_root) if args.data_root is not None else default_data_root()
    if Path(args.mixture).is_file() and args.data_root is None:
        root = Path(args.mixture).parent
    for source in config.sources:
        print(f"{source.name}: {source.license or 'license not stated'}" + _at(source.license_url))
        for part in source.parts:
            print(
                f"  {part.num_examples:>9,} {part.name}: {part.license}{_at(part.license_url)}; by {part.provenance}"
            )
            if part.teacher is not None:
                print(f"            written by {part.teacher}; {part.teacher_terms or 'terms unknown'}")
        if not source.downloads:
            here = "here" if Path(source.path).exists() else "not here, and the mixture does not say where to get it"
            print(f"  {source.path}: {here}")
        for download in source.downloads:
            mark = "here   " if download.is_here(root) else "missing"
            print(f"  [{mark}] {root / download.target}: {download.name}, {download.size}, {download.license}")
            pinned = f" at revision {download.revision}" if download.revision is not None else ""
            print(f"            {download.url}{pinned}")
            if download.note is not None:
                print(f"            {download.note}")


def _list(args: argparse.Namespace) -> None:
    from transformers_llava.packaged import list_packaged

    print("\n".join(list_packaged("mixture")))


def _config(args: argparse.Namespace) -> Any:
    from transformers_llava.cli.extras import require_extra

    require_extra("train", "`llava data`")
    from transformers_llava.data.mixture.mixture_file import read_mixture_file

    try:
        return read_mixture_file(args.mixture, data_root=args.data_root, image_root=getattr(args, "image_root", None))
    except ValueError as error:
        raise CommandError(str(error)) from error


def _read(args: argparse.Namespace, config: Any, *, recheck_images: bool = False) -> tuple[dict[str, Any], Any]:
    """The lock and the report of what is on disk now."""
    from transformers_llava.data.mixture.lock import count_tokens_of_sources, make_lock
    from transformers_llava.data.mixture.mixture_building import build_mixture
    from transformers_llava.data.tokens.length_filter import measure_examples
    from transformers_llava.data.tokens.policy import EncodingPolicy

    if config.token_budgets and args.model is None:
        raise CommandError(
            f"the sources {sorted(config.token_budgets)} have token budgets, and tokens cannot be counted without a "
            "tokenizer. Name the checkpoint with --model."
        )
    if args.max_length is not None and args.model is None:
        raise CommandError(
            f"--max_length {args.max_length} is a number of tokens, and tokens cannot be counted without a tokenizer. "
            "Name the checkpoint with --model, or leave it out."
        )
    try:
        dataset, report = build_mixture(config, num_proc=args.num_proc, recheck_images=recheck_images)
        if args.model is None:
            return make_lock(config, report), report
        measured = measure_examples(
            dataset,
            _processor(args.model),
            EncodingPolicy(max_length=args.max_length),
            num_proc=args.num_proc,
            token_budgets=config.token_budgets,
            cache_key=report.content_key(),
        )
        tokens = count_tokens_of_sources(
            measured.dataset["source"][:], [length.num_tokens for length in measured.lengths]
        )
        return make_lock(config, report, tokens_of_source=tokens, lengths=measured.report), report
    except ValueError as error:
        raise CommandError(str(error)) from error


def _processor(model: str) -> Any:
    from transformers import AutoProcessor

    from transformers_llava import register
    from transformers_llava.modeling.processing_open_llava import OpenLlavaProcessor

    register()
    try:
        processor = AutoProcessor.from_pretrained(model)
    except Exception as error:  # whatever its files hold, and what the Hub's client says without a network
        raise CommandError(
            f"no processor can be loaded from {model!r} ({type(error).__name__}: {error}). Name a folder or a Hub "
            "repository with a LLaVA checkpoint."
        ) from error
    if not isinstance(processor, OpenLlavaProcessor):
        raise CommandError(
            f"{model!r} gives a {type(processor).__name__}, which cannot count the tokens of images as a run does. "
            "Name a LLaVA checkpoint, or convert it first (`llava convert`)."
        )
    return processor


def _at(url: str | None) -> str:
    return f" ({url})" if url is not None else ""
