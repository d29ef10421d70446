"""Find the Jinja source of a conversation template by its name.

Every template is one `.jinja` file beside this one. The comment at its top says what it is: name, aliases (other names
under which the originals know the same text), family, separator style and `version` of the original, the string that
ends an answer, which models were made with it, and the lines of the original it was checked against.

Contract: a template writes `bos_token` itself where its family has one, so tokenizers used with it add none; the text
of an assistant turn and its end token stand inside `{% generation %}`; `content` may be a string, which is rendered as
it stands, or a list of text and image parts, where a single image is moved to the front as the original's
`preprocess_multimodal` does.
"""

import re
from dataclasses import dataclass
from functools import cache

from transformers_llava.packaged import list_packaged, packaged_file


_IMAGE_TEXT = re.compile(r'(?<=\{%- set image_text = ")(.*)(?=" -%\})')
_DEFAULT_SYSTEM = re.compile(r'\{%- set default_system = "(.*)" -%\}')


@dataclass(frozen=True)
class ChatTemplateInfo:
    """What the header of a template file states, field by field; `system` is its default system text."""

    name: str
    aliases: tuple[str, ...]
    family: str
    style: str
    version: str
    stop: str
    models: str
    source: str
    system: str


def list_chat_templates(*, with_aliases: bool = False) -> list[str]:
    """Names of all templates, sorted; the other names of the same texts too if `with_aliases`."""
    return sorted(_name_to_file()) if with_aliases else sorted(set(_name_to_file().values()))


def load_chat_template(name: str, *, use_im_start_end: bool = False) -> str:
    """
    The Jinja source of a template, ready for `processor.chat_template` or `chat_template.jinja`.

    Args:
        name (`str`): one of `list_chat_templates(with_aliases=True)`, for example `"vicuna_v1"`.
        use_im_start_end (`bool`, *optional*, defaults to `False`):
            write `<im_start><image><im_end>` for an image part, as checkpoints with `mm_use_im_start_end` learned it.

    Raises:
        ValueError: there is no template of that name.

    Example:

        >>> load_chat_template("vicuna_v1") == load_chat_template("v1")
        True
    """
    source = packaged_file("chat_template", _canonical_name(name)).read_text(encoding="utf-8").rstrip("\n")
    if use_im_start_end:
        source = _IMAGE_TEXT.sub(lambda found: found[0].replace("<image>", "<im_start><image><im_end>"), source)
    return source


def chat_template_info(name: str) -> ChatTemplateInfo:
    """The header of a template as data: `chat_template_info("v1").stop == "</s>"`."""
    source = load_chat_template(name)
    header = dict(line.split(": ", 1) for line in source[: source.index("-#}")].splitlines()[1:])
    system = _DEFAULT_SYSTEM.search(source)
    return ChatTemplateInfo(
        name=header["name"],
        aliases=tuple(header["aliases"].split(", ")) if "aliases" in header else (),
        family=header["family"],
        style=header["style"],
        version=header["version"],
        stop=header["stop"].replace("\\n", "\n"),
        models=header["models"],
        source=header["source"],
        system=system[1].replace("\\n", "\n") if system else "",
    )


def _canonical_name(name: str) -> str:
    names = _name_to_file()
    if name not in names:
        raise ValueError(
            f"there is no conversation template {name!r}, so the dialogue cannot be rendered. Choose one of "
            f"{', '.join(sorted(names))}, or pass Jinja source of your own as `chat_template`."
        )
    return names[name]


@cache
def _name_to_file() -> dict[str, str]:
    names: dict[str, str] = {}
    for file_name in list_packaged("chat_template"):
        header = packaged_file("chat_template", file_name).read_text(encoding="utf-8").split("-#}", 1)[0]
        aliases = re.search(r"^aliases: (.*)$", header, flags=re.MULTILINE)
        for name in [file_name, *(aliases[1].split(", ") if aliases else [])]:
            assert name not in names, f"the template name {name!r} is claimed by {names[name]} and by {file_name}"
            names[name] = file_name
    return names


__all__ = ["ChatTemplateInfo", "chat_template_info", "list_chat_templates", "load_chat_template"]
