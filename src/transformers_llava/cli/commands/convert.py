"""Run `llava convert`: turn a checkpoint of any kind into a folder that loads with one line."""

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "convert",
        help="convert a checkpoint: original LLaVA, LoRA, projector, delta, llava-hf, and back",
        description="Convert a checkpoint. What SOURCE is, its files say: an original LLaVA or LLaVA-NeXT, an "
        "unmerged LoRA, a stage-1 projector, v0 delta weights, llava-hf, or one of ours. TARGET appears complete or "
        "not at all.",
        epilog="Example: llava convert liuhaotian/llava-v1.5-7b llava-v1.5-7b-open --check_parity",
        allow_abbrev=False,
    )
    parser.add_argument("source", metavar="SOURCE", help="folder or Hub id")
    parser.add_argument("target", metavar="TARGET", help="folder to make; with --to projector a file")
    parser.add_argument(
        "--to",
        choices=("open_llava", "builtin", "projector"),
        default="open_llava",
        help="open_llava (default); builtin: llava or llava_next, for plain transformers, vLLM and others; projector: "
        "only that, as a .bin (the original's names) or .safetensors file (ours)",
    )
    parser.add_argument("--base", metavar="MODEL", help="language model that a LoRA, projector or delta belongs to")
    parser.add_argument("--vision_tower", metavar="MODEL", help="in place of the tower that the configuration names")
    parser.add_argument("--template", metavar="NAME", help="conversation template, in place of the architecture's")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="cast weights; default: as they are"
    )
    parser.add_argument("--max_shard_size", metavar="SIZE", help="such as 2GB; default: 5GB")
    parser.add_argument("--check_parity", action="store_true", help="run images and prompts through source and target")
    parser.add_argument("--with_code", action="store_true", help="add what trust_remote_code=True needs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from transformers_llava.cli.errors import CommandError
    from transformers_llava.cli.failures import explain_user_error
    from transformers_llava.conversion.convert import convert_checkpoint, extract_projector

    try:
        if args.to == "projector":
            _refuse_unused(args)
            names = extract_projector(
                args.source, args.target, base=args.base, vision_tower=args.vision_tower, dtype=args.dtype
            )
            print(f"{args.source} -> {args.target}: {', '.join(names)}")
            return 0
        report = convert_checkpoint(
            args.source,
            args.target,
            to=args.to,
            base=args.base,
            vision_tower=args.vision_tower,
            template=args.template,
            dtype=args.dtype,
            max_shard_size=args.max_shard_size,
            check_parity=args.check_parity,
            with_code=args.with_code,
        )
    except (ValueError, OSError) as error:
        raise CommandError(explain_user_error(error)) from error
    print(report)
    return 0 if report.parity is None or report.parity.passed else 1


def _refuse_unused(args: argparse.Namespace) -> None:
    """Flags that say something about a whole checkpoint: a projector alone is neither run nor loaded by its name."""
    for name in ("check_parity", "template", "max_shard_size", "with_code"):
        if getattr(args, name):
            raise ValueError(f"--{name} means nothing with --to projector: it writes one file. Leave it out.")
