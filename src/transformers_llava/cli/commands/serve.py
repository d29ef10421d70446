"""Run `llava serve`: answer OpenAI clients over HTTP, with one checkpoint of any layout."""

import argparse
from pathlib import Path
from typing import Any

from transformers_llava.cli.errors import CommandError


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "serve",
        help="answer over HTTP, as OpenAI's API does",
        description="An OpenAI-compatible server (chat completions, responses, completions, models) for one "
        "checkpoint: ours, an original or llava-hf. Images come in the request; addresses and "
        "files of the server are read only where a flag allows it.",
        epilog="Example: llava serve my-checkpoint --port 8000. It needs `pip install transformers-llava[serve]`.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="folder or Hub id to load and use for all requests")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; the default is for this machine alone"
    )
    parser.add_argument("--port", type=int, default=8000, help="default: 8000")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:0, ... (default: auto)")
    parser.add_argument("--dtype", default="auto", help="auto (as stored), float32, bfloat16, float16 (default: auto)")
    parser.add_argument(
        "--attn_implementation",
        choices=("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"),
        help="default: the model's own",
    )
    parser.add_argument("--quantization", choices=("bnb-4bit", "bnb-8bit"), help="needs the extra `quantization`")
    parser.add_argument("--compile", action="store_true", help="torch.compile with a static cache")
    parser.add_argument(
        "--allow_image_urls", action="store_true", help="fetch images that requests name by http address"
    )
    parser.add_argument(
        "--image_root", type=Path, metavar="FOLDER", help="read images that requests name below FOLDER"
    )
    parser.add_argument("--log_level", default="warning", choices=("debug", "info", "warning", "error"))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if not 0 <= args.port <= 65535:
        raise CommandError(f"--port is {args.port}, and must be from 0 (any free port) to 65535.")
    if args.image_root is not None and not args.image_root.is_dir():
        raise CommandError(f"--image_root names {str(args.image_root)!r}, and there is no such folder.")
    from transformers_llava.cli.extras import require_extra

    require_extra("serve", "`llava serve`")
    import uvicorn
    from transformers.cli.serving.model_manager import ModelManager
    from transformers.utils import logging

    import transformers_llava
    from transformers_llava.generation.server.app import build_app
    from transformers_llava.generation.server.images import ImageSources

    transformers_llava.register()
    logging.set_verbosity(logging.log_levels[args.log_level])
    _check_name(args.model)
    _check_device(args.device)
    try:
        manager = ModelManager(
            device=args.device,
            dtype=args.dtype,
            attn_implementation=args.attn_implementation,
            quantization=args.quantization,
            force_model=args.model,
        )
    except Exception as error:  # whatever its files hold, and what the Hub's client says without a network
        raise CommandError(_not_loaded(args.model, error)) from error
    app = build_app(manager, ImageSources(args.allow_image_urls, args.image_root), compile=args.compile)
    uvicorn.run(app, host=args.host, port=args.port, log_level="info")
    return 0


def _check_name(model: str) -> None:
    """A path that is not there is said to be missing, instead of being called a malformed repository."""
    looks_like_path = (
        model.startswith((".", "/", "~")) or model.count("/") > 1 or Path(model).suffix in (".json", ".safetensors")
    )
    if not Path(model).is_dir() and (looks_like_path or Path(model).exists()):
        raise CommandError(f"there is no folder {model!r}. Name a checkpoint's folder, or a repository as OWNER/NAME.")


def _check_device(device: str) -> None:
    """What torch would say with an assertion of its own, after the weights were read."""
    import torch

    found = torch.cuda.device_count()
    number = device.partition(":")[2]
    if device.partition(":")[0] == "cuda" and (found == 0 or (number.isdecimal() and int(number) >= found)):
        raise CommandError(f"--device {device} is not here: torch sees {found} GPU(s). Use one of them, or `cpu`.")


def _not_loaded(model: str, error: Exception) -> str:
    from transformers_llava.artifacts.snapshots import FolderNotFoundError, find_folder

    try:
        find_folder(model, "the model")
    except FolderNotFoundError as reason:
        return str(reason)
    said = " ".join(str(error).split())[:500]
    return (
        f"{model!r} cannot be loaded ({type(error).__name__}: {said}). Correct what is named, or name a checkpoint "
        "that `llava inspect model` can show."
    )


__all__ = ["add_parser", "run"]
