"""Tell the files of a repository that no publication of ours has put there, and keep them where that is wanted."""

import json
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import HfApi

from transformers_llava.artifacts.untrusted import parse_json, path_inside
from transformers_llava.hub.publication.manifest import NOT_LISTED, listed_files
from transformers_llava.hub.publication.stage import Publication
from transformers_llava.hub.upload.remote import RemoteState, differing_files, read_remote_text
from transformers_llava.hub.verification.checks.listed_files import is_harmless


NOT_OURS_NAME = "not_ours.json"  # in a publication: files that lay there before and were kept; the manifest pins them


@dataclass
class ForeignFiles:
    """
    Files that neither this publication nor an earlier one has put into the repository.

    Args:
        harmless (`list[str]`): Verification does not mind them, such as a user's images beside the card. They stay.
        refused (`list[str]`): With them there, the publication would not verify and could not be tagged.
    """

    harmless: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def find_foreign_files(publication: Publication, remote: RemoteState, before: set[str]) -> ForeignFiles:
    """
    Sort them by what verification will say of each.

    Args:
        before (`set[str]`): What an earlier publication has put there.
    """
    ours = {path.relative_to(publication.folder).as_posix() for path in publication.folder.rglob("*")}
    names = sorted(remote.files.keys() - ours - before - NOT_LISTED)
    return ForeignFiles(
        harmless=[name for name in names if is_harmless(name)],
        refused=[name for name in names if not is_harmless(name)],
    )


def kept_before(api: HfApi, remote: RemoteState, before: set[str]) -> set[str]:
    """
    Of the files of an earlier publication those that it had found there and kept.

    Raises:
        `DocumentError`: its note of them is not readable.
    """
    text = read_remote_text(api, remote, NOT_OURS_NAME) if NOT_OURS_NAME in before else None
    return set() if text is None else set(parse_json(text, f"{remote.repo_id}/{NOT_OURS_NAME}"))


def fetch_foreign_files(remote: RemoteState, names: list[str], api: HfApi, revised: Path) -> None:
    """
    Fetch foreign files that are to become part of a publication, as what they are: `not_ours.json` names them.

    Args:
        revised (`Path`): Gets them and the note: what will be copied over the publication, see `upload.plan`.

    Raises:
        `ValueError`: a file is not what the Hub said it is.
    """
    with tempfile.TemporaryDirectory() as scratch:
        targets = {name: path_inside(revised, name, "a file of the repository") for name in names}
        fetched = {
            name: Path(api.hf_hub_download(remote.repo_id, name, revision=remote.head, local_dir=scratch))
            for name in names
        }
        differing = set(differing_files(api, remote, Path(scratch)))
        for name, target in targets.items():
            if name in differing:
                raise ValueError(f"{name!r} of {remote.repo_id} arrived with other bytes. Run the command again.")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(fetched[name], target)
    listed = listed_files(revised)
    note = {name: listed[name] for name in names}
    (revised / NOT_OURS_NAME).write_text(json.dumps(note, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


__all__ = ["ForeignFiles", "NOT_OURS_NAME", "fetch_foreign_files", "find_foreign_files", "kept_before"]
