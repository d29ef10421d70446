"""Plan what publishing would change in a repository; printed before anything is sent."""

import difflib
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi

from transformers_llava.artifacts.atomic_write import write_atomically
from transformers_llava.artifacts.untrusted import path_inside
from transformers_llava.hub.cards.merge import merge_card
from transformers_llava.hub.publication.manifest import MANIFEST_NAME, with_more_files
from transformers_llava.hub.publication.signing import SIGNATURE_NAME, sign
from transformers_llava.hub.publication.stage import Publication, describe_sizes
from transformers_llava.hub.upload.foreign_files import (
    ForeignFiles,
    fetch_foreign_files,
    find_foreign_files,
    kept_before,
)
from transformers_llava.hub.upload.remote import (
    RemoteState,
    differing_files,
    published_before,
    read_remote,
    read_remote_text,
)


WithForeign = Literal["refuse", "replace", "keep"]


@dataclass
class PublicationPlan:
    """
    What publishing would do.

    Args:
        publication (`Publication`): What is ready, with the manifest that it will have.
        remote (`RemoteState`): What is there now.
        changed (`list[str]`): Files to send.
        deleted (`list[str]`): Files of an earlier publication that this one has not, and what is to be replaced.
        card_diff (`str`): Of the README, as a unified diff.
        foreign (`ForeignFiles`): What somebody else has put there, as far as it stays.
        kept (`list[str]`): Foreign files that become part of this publication, as not ours.
        revision (`TemporaryDirectory`): What `publish` copies over the publication first: README.md with the user's
            edits of the remote card, and with `kept` these files, `not_ours.json` and the manifest. Until then the
            publication is as it was.
        key (`Path`, *optional*): Signs the publication again once it was revised.
    """

    publication: Publication
    remote: RemoteState
    changed: list[str]
    deleted: list[str]
    card_diff: str
    revision: "tempfile.TemporaryDirectory[str]"
    foreign: ForeignFiles = field(default_factory=ForeignFiles)
    kept: list[str] = field(default_factory=list)
    key: Path | None = None

    @property
    def tag(self) -> str:
        return self.publication.manifest.tag

    @property
    def is_done(self) -> bool:
        """The repository has all of it already."""
        return self.remote.head is not None and not self.changed and not self.deleted

    @property
    def blockers(self) -> list[str]:
        """Why it must not be published: secrets and private paths."""
        return [str(finding) for finding in self.publication.findings]

    @property
    def question(self) -> str | None:
        """What a user has to decide before anything is sent; `None` if nothing."""
        if not self.foreign.refused:
            return None
        return (
            f"{self.remote.repo_id} holds files that no publication has put there, and with them it would not verify "
            f"and could not be tagged: {', '.join(self.foreign.refused)}. Say what becomes of them: --replace removes "
            "them in the same commit, --keep_foreign leaves them there and records them as not ours."
        )

    def __str__(self) -> str:
        manifest, changed = self.publication.manifest, set(self.changed)
        lines = [
            f"{self.remote.repo_id}: "
            + (f"at commit {self.remote.head[:12]}" if self.remote.head else "a new repository"),
            f"layout {self.publication.layout}, manifest {manifest.digest}, tag {self.tag}",
            "",
        ]
        for name, size, digest in [*describe_sizes(self.publication), (MANIFEST_NAME, 0, ""), ("README.md", 0, "")]:
            mark = "send" if name in changed else "kept" if name in self.kept else "same"
            lines.append(f"  {mark}  {size or self._path(name).stat().st_size:>14,}  {digest:12}  {name}")
        lines += [f"  drop  {'':14}  {'':12}  {name}" for name in self.deleted]
        for name in self.foreign.harmless:
            lines.append(f"  left  {self.remote.files[name].size:>14,}  {'not ours':12}  {name}")
        for name in self.foreign.refused:
            lines.append(f"  ????  {self.remote.files[name].size:>14,}  {'not ours':12}  {name}")
        lines += [f"  stays here: {name} ({reason})" for name, reason in self.publication.left_out.items()]
        if self.remote.head is None:
            lines += ["", f"card: new, {len(self._card().splitlines())} lines"]
        elif self.card_diff:
            lines += ["", "card:", self.card_diff.rstrip()]
        lines += ["", *self.publication.notes]
        if manifest.incomplete:
            lines.append(f"incomplete, and published so: {', '.join(manifest.incomplete)}")
        lines += [f"must not leave: {blocker}" for blocker in self.blockers]
        if self.question is not None:
            lines += ["", self.question]
        if self.is_done:
            lines.append("nothing to send: the repository has all of it")
        return "\n".join(lines)

    @property
    def revised(self) -> dict[str, Path]:
        """Path in the publication -> file that will be copied there."""
        return _files(Path(self.revision.name))

    def write(self) -> None:
        """Revises the publication, so that it is what the plan says; the manifest comes last, and then a signature."""
        folder = self.publication.folder
        for name, path in sorted(self.revised.items(), key=lambda item: item[0] == MANIFEST_NAME):
            target = path_inside(folder, name, "a file of the plan")
            target.parent.mkdir(parents=True, exist_ok=True)
            if name in self.kept:
                shutil.copyfile(path, target)
            else:
                write_atomically(target, path.read_bytes())
        if self.kept and self.key is not None:
            sign(folder, self.key)

    def _path(self, name: str) -> Path:
        return self.revised.get(name, self.publication.folder / name)

    def _card(self) -> str:
        return self._path("README.md").read_text(encoding="utf-8")


def plan_publication(
    publication: Publication,
    repo_id: str,
    api: HfApi,
    *,
    with_foreign: WithForeign = "refuse",
    key: str | Path | None = None,
) -> PublicationPlan:
    """
    Compares a publication with the repository, file by file, and brings the user's edits of the card over.

    Contract: nothing of the publication is written; `publish` does that, see [`PublicationPlan`].

    Args:
        with_foreign (`str`, *optional*, defaults to `"refuse"`): What becomes of files that nobody has published and
            that would not verify: `refuse` asks, `replace` removes them in the same commit, `keep` fetches them and
            makes them part of the publication, as not ours.
        key (`str`, *optional*): Signs the publication again, where it changes by what is kept.

    Raises:
        `ValueError`: the card there has lost a marker, so that generated and written text cannot be told apart.
    """
    remote = read_remote(api, repo_id)
    folder, revision = publication.folder, tempfile.TemporaryDirectory(prefix="revised_publication")
    revised = Path(revision.name)
    there = read_remote_text(api, remote, "README.md")
    rendered = (folder / "README.md").read_text(encoding="utf-8")
    merged = merge_card(there, rendered)
    if merged != rendered:
        (revised / "README.md").write_text(merged, encoding="utf-8")
    before = published_before(api, remote)
    before -= kept_before(api, remote, before)
    foreign, kept, replaced = find_foreign_files(publication, remote, before), [], []
    if with_foreign == "keep" and foreign.refused:
        fetch_foreign_files(remote, foreign.refused, api, revised)
        publication = replace(publication, manifest=with_more_files(publication.manifest, folder, revised))
        (revised / MANIFEST_NAME).write_text(publication.manifest.to_text(), encoding="utf-8")
        foreign, kept = ForeignFiles(foreign.harmless), foreign.refused
    elif with_foreign == "replace":
        foreign, replaced = ForeignFiles(foreign.harmless), foreign.refused
    # With what is kept `write` signs again, and the signature that lies here or there is of other files.
    signed = {SIGNATURE_NAME} if kept and key is not None else set()
    rewritten = _files(revised)
    changed = {*differing_files(api, remote, folder)} - rewritten.keys() | {*differing_files(api, remote, revised)}
    changed |= signed
    # A signature that stays would be one of other files.
    gone = {*before, SIGNATURE_NAME, *replaced} - _files(folder).keys() - rewritten.keys() - signed
    deleted = sorted(name for name in gone if name in remote.files)
    diff = difflib.unified_diff((there or "").splitlines(), merged.splitlines(), "there", "then", lineterm="")
    card_diff, again = "\n".join(diff), None if key is None else Path(key)
    return PublicationPlan(publication, remote, sorted(changed), deleted, card_diff, revision, foreign, kept, again)


def _files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


__all__ = ["PublicationPlan", "plan_publication"]
