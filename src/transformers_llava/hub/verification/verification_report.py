"""Hold the findings of a verification, level by level."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from transformers_llava.hub.verification.findings import Check, Found, Status


LEVELS = {
    "L0": "the manifest is whole and does not contradict itself",
    "L1": "files, tensors, configuration, recipe, card and license statement are what the manifest and the run say",
    "L2": "the data and base models that are here are the recorded ones",
    "L3": "training again gave identical tensors (same kind of machine, versions, threads, processes)",
    "L4": "training again agrees within tolerance (any machine)",
}


def _after(message: str) -> str:
    return f": {message}" if message else ""


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


__all__ = ["LEVELS", "VerificationReport"]
