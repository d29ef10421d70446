"""Verify a publication level by level: what can be computed again from its files, each finding by name."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from transformers_llava.hub.content_checks import check_files, check_signature
from transformers_llava.hub.expectations import Expected, check_expected
from transformers_llava.hub.findings import Check, Found, Status, guarded, limited
from transformers_llava.hub.manifest import MANIFEST_NAME, Manifest, ManifestError, read_manifest
from transformers_llava.hub.part_checks import check_parts
from transformers_llava.hub.present_files import PresentFiles, TooManyFilesError, list_present
from transformers_llava.hub.recipe_checks import check_recomputed
from transformers_llava.hub.retrained_checks import check_retrained
from transformers_llava.hub.weight_checks import check_weights


LEVELS = {
    "L0": "the manifest is whole and does not contradict itself",
    "L1": "files, tensors, configuration, recipe, card and licence statement are what the manifest and the run say",
    "L2": "the data and base models that are here are the recorded ones",
    "L3": "training again gave identical tensors (same kind of machine, versions, threads, processes)",
    "L4": "training again agrees within tolerance (any machine)",
}


@dataclass
class VerificationReport:
    """Everything that was looked at, in order."""

    digest: str | None = None
    checks: list[Check] = field(default_factory=list)

    def add(self, level: str, findings: Iterable[Found]) -> None:
        """Adds what the checks of one level have found."""
        self.checks += [Check(level, *found) for found in findings]

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if check.status == "failed"]

    def status(self, level: str) -> Status:
        """Of a level: failed if one check failed, ok if one was made and none failed, else skipped."""
        of_level = [check.status for check in self.checks if check.level == level]
        return "failed" if "failed" in of_level else "ok" if "ok" in of_level else "skipped"

    @property
    def passed(self) -> bool:
        """Nothing failed. Weights that are within tolerance (L4) need not be identical (L3)."""
        needed = [check for check in self.failed if check.level != "L3" or self.status("L4") != "ok"]
        return bool(self.checks) and not needed

    def __str__(self) -> str:
        lines = [f"manifest {self.digest}" if self.digest else "no manifest"]
        for level, meaning in LEVELS.items():
            lines.append(f"\n{level} {self.status(level).upper()}: {meaning}")
            of_level = [check for check in self.checks if check.level == level]
            lines += [f"  {check.status:8} {check.name}" + _after(check.message) for check in of_level]
        return "\n".join(lines)


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
        retrained (`str`, *optional*): What `llava reproduce`, or a person, has trained from the publication.
        public_key (`str`, *optional*): Checks the signature `model.sig`.
        allow_remote_data (`bool`, *optional*): Reads data and images from the addresses that the mixture names.
        allow_dataset_folders (`bool`, *optional*): Lets `datasets` read folders of the publication, whose own files
            name what else it opens.
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
    say("files and tensors")
    report.add("L1", guarded("files", partial(check_files, folder, manifest, present)))
    report.add("L1", guarded("tensors", partial(check_weights, folder, manifest)))
    say("recipe, card and licences")
    report.add("L1", guarded("recipe", partial(check_recomputed, folder, manifest, present)))
    if "failed" in (report.status("L0"), report.status("L1")):
        why = "level 0 or 1 failed, so nothing is opened that the recipe names"
        report.checks.append(Check("L2", "data and base models", "skipped", why))
    else:
        say("data and base models")
        parts = partial(
            check_parts,
            folder,
            data_root,
            bases or {},
            present=present,
            allow_remote_data=allow_remote_data,
            allow_dataset_folders=allow_dataset_folders,
        )
        report.add("L2", guarded("data and base models", parts))
    if retrained is not None:
        say("retrained weights")
        report.checks += [Check(*found) for found in check_retrained(folder, Path(retrained), manifest.layout)]
    return report


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


def _after(message: str) -> str:
    return f": {message}" if message else ""


__all__ = ["LEVELS", "Check", "VerificationReport", "verify"]
