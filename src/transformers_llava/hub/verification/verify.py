"""Verify a publication level by level: what can be computed again from its files, each finding by name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from transformers_llava.artifacts.digests.file_digests import file_digest
from transformers_llava.artifacts.run_record.record_file import RUN_NAME, read_checked_record
from transformers_llava.artifacts.run_record.run_stages import RunRecord
from transformers_llava.hub.publication.manifest import MANIFEST_NAME, Manifest, ManifestError, read_manifest
from transformers_llava.hub.verification.checks.data_and_bases import check_parts
from transformers_llava.hub.verification.checks.listed_files import check_files, check_signature
from transformers_llava.hub.verification.checks.recomputed import check_recomputed
from transformers_llava.hub.verification.checks.retrained import check_retrained
from transformers_llava.hub.verification.checks.saved_weights import check_weights
from transformers_llava.hub.verification.expectation import Expected, check_expected
from transformers_llava.hub.verification.findings import Check, Found, guarded, limited, reason
from transformers_llava.hub.verification.present_files import PresentFiles, TooManyFilesError, list_present
from transformers_llava.hub.verification.verification_report import VerificationReport


def verify(
    folder: str | Path,
    *,
    expected: Expected | str | None = None,
    data_root: str | Path | None = None,
    bases: dict[str, str] | None = None,
    retrained: str | Path | None = None,
    public_key: str | Path | None = None,
    allow_remote_data: bool = False,
    allow_dataset_folders: bool = False,
    run: RunRecord | None = None,
    progress: Callable[[str], None] | None = None,
) -> VerificationReport:
    """
    Looks at a publication that lies in a folder; trusts nothing in it but what can be computed again.

    No request is made, and no path is opened that leads out of the folder, unless an argument allows it.

    Args:
        folder (`str`): The publication.
        expected (`str` or [`Expected`], *optional*): The manifest's digest, or the tag (`v-...`), from somewhere that
            is trusted; else a manifest that was written anew over changed files is only caught where files contradict
            each other.
        data_root (`str`, *optional*): Where data that are not in the publication lie.
        bases (`dict`, *optional*): Role (`language_model`, ...) -> folder of a base model.
        retrained (`str`, *optional*): What `llava reproduce`, or a user, has trained from the publication.
        public_key (`str`, *optional*): Checks the signature `model.sig`.
        allow_remote_data (`bool`, *optional*): Reads data and images from the addresses that the mixture names.
        allow_dataset_folders (`bool`, *optional*): Lets `datasets` read folders of the publication, whose own files
            name what else it opens.
        run (`RunRecord`, *optional*): That of the publication, from a caller that has read it; else it is read here,
            once.
        progress (`Callable`, *optional*): Told what is looked at now.

    Returns:
        [`VerificationReport`]: never raises for what is wrong with the publication.

    Raises:
        `ExpectationError`: `expected` is no digest, or too short to prove anything.
    """
    if not isinstance(expected, Expected):
        expected = Expected().and_digest(expected)
    folder, report = Path(folder), VerificationReport()
    say = progress or (lambda _: None)
    say("manifest")
    opened = _open(folder, report)
    if opened is None:
        return report
    manifest, present = opened
    report.digest = manifest.digest
    report.checks.append(
        Check("L0", "manifest", "ok", f"{len(manifest.files)} files, {len(manifest.tensors)} tensors")
    )
    report.add("L0", check_expected(manifest.digest, expected))
    report.add("L0", guarded("signature", partial(check_signature, folder, public_key)))
    run, unreadable = _record_of(folder, run)
    say("files and tensors")
    report.add("L1", guarded("files", partial(check_files, folder, manifest, present)))
    report.add("L1", guarded("tensors", partial(check_weights, folder, run, manifest)))
    say("recipe, card and licenses")
    if run is None:
        report.add("L1", unreadable)
    else:
        report.add("L1", guarded("recipe", partial(check_recomputed, folder, run, manifest, present)))
    if run is None or "failed" in (report.status("L0"), report.status("L1")):
        why = "level 0 or 1 failed, so nothing is opened that the recipe names"
        report.checks.append(Check("L2", "data and base models", "skipped", why))
    else:
        say("data and base models")
        parts = partial(
            check_parts,
            folder,
            run,
            data_root,
            bases or {},
            present=present,
            allow_remote_data=allow_remote_data,
            allow_dataset_folders=allow_dataset_folders,
        )
        report.add("L2", guarded("data and base models", parts))
    if retrained is not None:
        say("retrained weights")
        report.checks += [Check(*found) for found in check_retrained(folder, run, Path(retrained), manifest.layout)]
    return report


def _record_of(folder: Path, run: RunRecord | None) -> tuple[RunRecord | None, list[Found]]:
    """The record that all checks are made of, read once; or nothing, and the finding that says why."""
    try:
        if run is None:
            return read_checked_record(folder), []
        if run.sha256 == file_digest(folder / RUN_NAME):
            return run, []
        why = "it is not the file that was read before: it was changed meanwhile"
    except Exception as error:  # of a file of any form; of the file system
        why = reason(error)
    return None, [Found(RUN_NAME, "failed", f"nothing can be recomputed from it: {why}")]


def _open(folder: Path, report: VerificationReport) -> tuple[Manifest, PresentFiles] | None:
    """
    The manifest, and what lies beside it; nothing where one of them cannot be had, or a file must not be opened.

    What comes after opens files by name, so a single link that leads out of the folder ends it here.
    """
    try:
        if (folder / MANIFEST_NAME).is_symlink() or (folder / MANIFEST_NAME).exists():
            present = list_present(folder)
            if present.refused:
                refused = (Found(name, "failed", why) for name, why in present.refused.items())
                report.add("L0", limited(refused, "links"))
                return None
            return read_manifest(folder), present
        return read_manifest(folder), PresentFiles()
    except (ManifestError, TooManyFilesError) as error:
        report.checks.append(Check("L0", "manifest", "failed", str(error)))
    except Exception as error:  # of the file system
        report.checks.append(Check("L0", "manifest", "failed", f"it cannot be read ({type(error).__name__}: {error})"))
    return None


__all__ = ["Check", "verify"]
