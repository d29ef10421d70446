"""Carry files of the repository that a page links to into the built site, so that no link leads out of it.

A hook of mkdocs (see mkdocs.yml). On GitHub the links work as they stand; in the site they lead to `repository/...`.
"""

import posixpath
import re
import shutil
from pathlib import Path
from typing import Any


_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)]*)?\)")
_linked: set[Path] = set()


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn links to files outside of `docs/` into links to their copies; a missing file stays, and fails the build."""
    docs = Path(config["docs_dir"])
    root = docs.parent
    here = (docs / page.file.src_uri).parent

    def rewritten(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        path = (here / target).resolve()
        if path.is_relative_to(docs) or not path.is_relative_to(root) or not path.exists():
            return match[0]
        if path.is_dir():  # a site has no page for it
            return f"{text} (`{path.relative_to(root).as_posix()}/`)"
        _linked.add(path)
        address = posixpath.relpath(
            f"repository/{path.relative_to(root).as_posix()}", posixpath.dirname(page.url) or "."
        )
        return f'<a href="{address}">{text.replace("`", "")}</a>'

    return _LINK.sub(rewritten, markdown)


def on_post_build(config: Any) -> None:
    """Copy what the pages link to."""
    root = Path(config["docs_dir"]).parent
    for path in sorted(_linked):
        target = Path(config["site_dir"]) / "repository" / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
