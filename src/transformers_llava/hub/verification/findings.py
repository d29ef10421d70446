"""Say what a check of a publication found, in text that cannot be mistaken for another finding."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from transformers_llava.artifacts.limits import MAX_MESSAGE_LENGTH, MAX_NAMED_FINDINGS


Status = Literal["ok", "failed", "skipped"]


class Found(NamedTuple):
    """What one check gives; the level is added by `verify`."""

    name: str
    status: Status
    message: str


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    level: str
    name: str
    status: Status
    message: str = ""

    def __post_init__(self) -> None:
        # Names and messages hold texts of the publication: without control characters they stay on their line.
        object.__setattr__(self, "name", printable(self.name))
        object.__setattr__(self, "message", printable(self.message))

    def __str__(self) -> str:
        return f"{self.level} {self.status:8} {self.name}" + (f": {self.message}" if self.message else "")


def guarded(name: str, check: Callable[[], Iterable[Found]]) -> Iterator[Found]:
    """
    Run a check such that it cannot raise: what it did not expect is a failed check with its reason.

    Everything that a check reads was written by others, and passes through several libraries. A fault that none of
    them names must neither end the command nor be taken for a pass.
    """
    try:
        yield from check()
    except Exception as error:
        yield Found(name, "failed", f"it cannot be checked: {reason(error)}")


def limited(findings: Iterable[Found], what: str) -> Iterator[Found]:
    """The first findings by name, and how many more there are."""
    more = 0
    for number, found in enumerate(findings):
        if number < MAX_NAMED_FINDINGS:
            yield found
        else:
            more += 1
    if more:
        yield Found(what, "failed", f"{more:,} more")


def reason(error: BaseException) -> str:
    """An error as one line: what it says, and its type where that says more."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and len(text) > 40 else f"{text} ({type(error).__name__})"


def printable(text: str) -> str:
    """Without line breaks, escape sequences and half characters, and of bounded length."""
    text = "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)
    return text if len(text) <= MAX_MESSAGE_LENGTH else text[: MAX_MESSAGE_LENGTH - 3] + "..."


__all__ = ["Check", "Found", "Status", "guarded", "limited", "printable", "reason"]
