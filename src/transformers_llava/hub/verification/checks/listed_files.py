"""Check the files of a publication and its signature against what the manifest lists."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from transformers_llava.artifacts.digests.file_digests import file_digest
from transformers_llava.hub.publication.manifest import NOT_LISTED, Manifest
from transformers_llava.hub.publication.signing import SIGNATURE_NAME, SigningError, check
from transformers_llava.hub.recipe_folder import RECIPE_FOLDER
from transformers_llava.hub.verification.findings import Found, limited
from transformers_llava.hub.verification.present_files import PresentFiles


# What people add on the Hub and no loader reads. No `.txt`: tokenizers read merges.txt and vocab.txt.
_HARMLESS = {".md", ".png", ".jpg", ".jpeg", ".gif", ".pdf"}


def check_files(folder: Path, manifest: Manifest, present: PresentFiles) -> Iterator[Found]:
    """Every file as listed, no more and no less; whatever is not listed is named."""
    problems = [*_listed(folder, manifest, present)]
    yield from limited(problems, "files")
    yield from limited(_not_listed(manifest, present), "files")
    if not problems:
        size = sum(one["size"] for one in manifest.files.values())
        yield Found("files", "ok", f"{len(manifest.files)} files, {size:,} bytes")


def _listed(folder: Path, manifest: Manifest, present: PresentFiles) -> Iterator[Found]:
    for name, facts in manifest.files.items():
        if name not in present.sizes:
            yield Found(name, "failed", "the manifest lists it, and it is not there")
        elif present.sizes[name] != facts["size"]:
            yield Found(name, "failed", f"it has {present.sizes[name]:,} bytes, and the manifest says {facts['size']}")
        elif (digest := file_digest(folder / name)) != facts["sha256"]:
            yield Found(name, "failed", f"its bytes are not the recorded ones (sha256 {digest[:12]})")


def _not_listed(manifest: Manifest, present: PresentFiles) -> Iterator[Found]:
    for name in sorted(present.sizes.keys() - manifest.files.keys() - NOT_LISTED):
        status = "skipped" if is_harmless(name) else "failed"
        yield Found(name, status, "it is there, and the manifest does not list it")  # type: ignore[arg-type]
    for folder, count in present.aside.items():
        whose = "git's own" if folder == ".git" else "of the Hub's client"
        yield Found(folder, "skipped", f"{count} files are {whose}; the manifest does not list them")


def is_harmless(name: str) -> bool:
    """Whether a file that the manifest does not list is a text or an image for readers; below `recipe/` none is."""
    path = PurePosixPath(name)
    return path.suffix.lower() in _HARMLESS and path.parts[0] != RECIPE_FOLDER


def check_signature(folder: Path, public_key: str | Path | None) -> Iterator[Found]:
    """The signature of `model-signing`, where there is one and the key to check it."""
    if not (folder / SIGNATURE_NAME).is_file():
        if public_key is not None:
            yield Found("signature", "failed", f"there is no {SIGNATURE_NAME}")
        return
    if public_key is None:
        yield Found("signature", "skipped", "there is one; name the signer's key with --public_key")
        return
    try:
        check(folder, Path(public_key))
    except SigningError as error:
        yield Found("signature", "failed", str(error))
    else:
        yield Found("signature", "ok", f"made with the private half of {Path(public_key).name}")


__all__ = ["check_files", "check_signature", "is_harmless"]
