"""Run `llava demo`: the whole chain on this machine's CPU, in minutes."""

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("demo", help="the whole chain on this machine's CPU", allow_abbrev=False)
    parser.add_argument("--output_dir", default="demo_output", help="default: demo_output")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from transformers_llava.cli.errors import CommandError
    from transformers_llava.cli.extras import require_extra

    require_extra("demo", "`llava demo`")
    import logging
    from pathlib import Path

    from transformers_llava.demo.run import run_demo

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not args.output_dir:
        raise CommandError("--output_dir '' names no folder, and the current one would be filled. Name one.")
    if not 0 <= args.seed < 2**32:
        raise CommandError(f"--seed {args.seed} is no seed of every generator. Use a number from 0 to {2**32 - 1}.")
    output_dir = Path(args.output_dir)
    report = run_demo(output_dir, seed=args.seed)
    print(report.to_text())
    print(f"\nOpen {output_dir / 'report.html'}; the checkpoint is {output_dir / 'checkpoint'}.")
    return 0
