"""Run `llava recipes`: list, show and copy the packaged recipes, and list the fields that one may use."""

import argparse
from pathlib import Path
from typing import Any

from transformers_llava.cli.errors import CommandError


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("recipes", help="list, show and copy the packaged recipes", allow_abbrev=False)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("ls", help="names, with the first line of what each is").set_defaults(run=_list)
    show = actions.add_parser("show", help="print a recipe")
    show.add_argument("name", metavar="NAME")
    show.set_defaults(run=_show)
    copy = actions.add_parser("cp", help="copy a recipe to a file of your own")
    copy.add_argument("name", metavar="NAME")
    copy.add_argument("file", metavar="FILE", type=Path)
    copy.set_defaults(run=_copy)
    fields = actions.add_parser("fields", help="every field that a recipe may use")
    fields.add_argument("word", nargs="?", default="", metavar="WORD", help="only fields with this word in the name")
    fields.set_defaults(run=_fields)


def _list(args: argparse.Namespace) -> None:
    from transformers_llava.packaged import file_or_packaged, header_of, list_packaged

    names = list_packaged("recipe")
    width = max(map(len, names))
    for name in names:
        header = header_of(file_or_packaged("recipe", name))
        print(f"{name:<{width}}  {header[0] if header else ''}")


def _show(args: argparse.Namespace) -> None:
    from transformers_llava.packaged import file_or_packaged

    print(_text(file_or_packaged("recipe", args.name)), end="")


def _copy(args: argparse.Namespace) -> None:
    from transformers_llava.packaged import file_or_packaged

    source = file_or_packaged("recipe", args.name)
    if args.file.exists():
        raise CommandError(f"{str(args.file)!r} exists and would be overwritten. Choose another name or remove it.")
    text = _text(source)
    try:
        args.file.parent.mkdir(parents=True, exist_ok=True)
        args.file.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:  # a file among its folders; a name that no file system takes
        raise CommandError(f"{str(args.file)!r} cannot be written ({error}). Choose another name.") from error
    print(f"{args.name} -> {args.file}")


def _fields(args: argparse.Namespace) -> None:
    from transformers_llava.cli.extras import require_extra

    require_extra("train", "`llava recipes fields`")
    from transformers_llava.training.recipe.recipe import describe_fields

    found = {name: help_text for name, help_text in describe_fields().items() if args.word in name}
    if not found:
        raise CommandError(f"no field has {args.word!r} in its name. `llava recipes fields` lists all of them.")
    for name, help_text in found.items():
        print(f"{name}\n    {help_text}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CommandError(f"{str(path)!r} is no text (UTF-8), so it is no recipe. Name a YAML file.") from error
