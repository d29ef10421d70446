"""A publication to what can be proven about it, level by level, each finding by name."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from transformers_llava.hub.checks import (
    check_contents,
    check_parts,
    check_recomputed,
    check_retrained,
    check_signature,
)
from transformers_llava.hub.manifest import TAG_PREFIX, Manifest, ManifestError, read_manifest


Status = Literal["ok", "failed", "skipped"]

LEVELS = {
    "L0": "the manifest is whole and does not contradict itself",
    "L1": "files, tensors, configuration, recipe, card and licence statement are what the manifest and the run say",
    "L2": "the data and base models that are here are the recorded ones",
    "L3": "training again gave identical tensors (same kind of machine, versions, threads, processes)",
    "L4": "training again agrees within tolerance (any machine)",
}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    level: str
    name: str
    status: Status
    message: str = ""

    def __str__(self) -> str:
        return f"{self.level} {self.status:8} {self.name}" + (f": {self.message}" if self.message else "")


@dataclass
class VerificationReport:
    """Everything that was looked at, in order."""

    digest: str | None = None
    checks: list[Check] = field(default_factory=list)

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
    expected: str | None = None,
    data_root: str | Path | None = None,
    bases: dict[str, str] | None = None,
    retrained: str | Path | None = None,
    public_key: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> VerificationReport:
    """
    Looks at a publication that lies in a folder; trusts nothing in it but what can be computed again.

    Args:
        folder (`str`): The publication.
        expected (`str`, *optional*): The manifest's digest, or the tag (`v-...`), from somewhere that is trusted; else
            a manifest that was written anew over changed files is only caught where files contradict each other.
        data_root (`str`, *optional*): Where data that are not in the publication lie.
        bases (`dict`, *optional*): Role (`language_model`, ...) -> folder of a base model.
        retrained (`str`, *optional*): What `llava reproduce`, or a person, has trained from the publication.
        public_key (`str`, *optional*): Checks the signature `model.sig`.
        progress (`Callable`, *optional*): Told what is looked at now.

    Returns:
        [`VerificationReport`]: never raises for what is wrong with the publication.
    """
    folder, report = Path(folder), VerificationReport()
    say = progress or (lambda _: None)
    say("manifest")
    try:
        manifest = read_manifest(folder)
    except ManifestError as error:
        report.checks.append(Check("L0", "manifest", "failed", str(error)))
        return report
    report.digest = manifest.digest
    report.checks.append(
        Check("L0", "manifest", "ok", f"{len(manifest.files)} files, {len(manifest.tensors)} tensors")
    )
    report.checks.append(_expected(manifest, expected))
    report.checks += [Check("L0", *found) for found in check_signature(folder, public_key)]
    say("files and tensors")
    report.checks += [Check("L1", *found) for found in check_contents(folder, manifest)]
    say("recipe, card and licences")
    report.checks += [Check("L1", *found) for found in check_recomputed(folder, manifest)]
    say("data and base models")
    report.checks += [Check("L2", *found) for found in check_parts(folder, data_root, bases or {})]
    if retrained is not None:
        say("retrained weights")
        report.checks += [Check(*found) for found in check_retrained(folder, Path(retrained), manifest.layout)]
    return report


def _expected(manifest: Manifest, expected: str | None) -> Check:
    if expected is None:
        return Check(
            "L0", "expected digest", "skipped", "none was given; the tag of the repository, or --expect, names it"
        )
    wanted = expected.removeprefix(TAG_PREFIX)
    if len(wanted) >= 12 and manifest.digest.startswith(wanted):
        return Check("L0", "expected digest", "ok", expected)
    return Check(
        "L0",
        "expected digest",
        "failed",
        f"expected {expected}, the manifest has {manifest.digest}: it is another one",
    )


def _after(message: str) -> str:
    return f": {message}" if message else ""


__all__ = ["LEVELS", "Check", "VerificationReport", "verify"]
