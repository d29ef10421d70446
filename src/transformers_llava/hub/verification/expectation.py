"""Compare a manifest's digest with what somebody expects: the user, or the tags of its repository."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from transformers_llava.artifacts.limits import MIN_EXPECTED_DIGITS
from transformers_llava.hub.publication.manifest import TAG_PREFIX
from transformers_llava.hub.verification.findings import Found


_TAG = re.compile(rf"{TAG_PREFIX}[0-9a-f]+", re.IGNORECASE)
_DIGEST = re.compile("[0-9a-f]{1,64}")


class ExpectationError(ValueError):
    """What was given is no digest, or one that is too short to prove anything."""


@dataclass(frozen=True)
class Expected:
    """
    What a manifest has to be.

    Args:
        digests (`tuple[str]`): From the user: digests or tags, all of which must fit.
        tags_here (`tuple[str]`): Tags of publications on the commit that was fetched.
        tags_elsewhere (`tuple[str]`): Those on other commits of the repository.
    """

    digests: tuple[str, ...] = ()
    tags_here: tuple[str, ...] = ()
    tags_elsewhere: tuple[str, ...] = ()

    def and_digest(self, digest: str | None) -> "Expected":
        """
        The same with one more digest from the user.

        Raises:
            `ExpectationError`: it is no digest of at least `MIN_EXPECTED_DIGITS` digits.
        """
        if digest is None:
            return self
        digits = digits_of(digest)
        if not _DIGEST.fullmatch(digits):
            raise ExpectationError(
                f"{digest!r} is no digest: a manifest's digest has 64 hexadecimal digits, its tag {TAG_PREFIX} and "
                f"{MIN_EXPECTED_DIGITS}. Nothing can be compared with it."
            )
        if len(digits) < MIN_EXPECTED_DIGITS:
            raise ExpectationError(
                f"{digest!r} has {len(digits)} digits. Another manifest that begins with so few can be made by "
                f"trying, so a match would prove nothing. Name at least {MIN_EXPECTED_DIGITS}."
            )
        return replace(self, digests=(*self.digests, digest))


def is_tag(revision: str | None) -> bool:
    """Whether a revision looks like the tag of a publication, and so says what the manifest has to be."""
    return revision is not None and _TAG.fullmatch(revision) is not None


def digits_of(digest: str) -> str:
    """The hexadecimal digits of a digest or tag."""
    return digest.lower().removeprefix(TAG_PREFIX)


def check_expected(digest: str, expected: Expected) -> Iterator[Found]:
    """Whether a manifest's digest is what the user expects, and what the tags of its repository say."""
    name = "expected digest"
    for given in expected.digests:
        yield Found(name, *_compare(digest, given))
    if not expected.digests:
        yield Found(
            name, "skipped", "none was given; name the digest or tag that you have from somewhere else with --expect"
        )
    if tags := (*expected.tags_here, *expected.tags_elsewhere):
        yield _compare_tags(digest, expected, tags)


def _compare(digest: str, given: str) -> tuple:
    digits = digits_of(given)
    if not digest.startswith(digits):
        return "failed", f"expected {given}, the manifest has {digest}: it is another one"
    if len(digits) < MIN_EXPECTED_DIGITS:
        return "failed", (
            f"{given} has {len(digits)} digits, and another manifest that begins with so few can be made by trying, "
            f"so it proves nothing although {digest} begins so. Name the whole digest, from somewhere you trust, with "
            "--expect; publishing again makes a tag of enough digits"
        )
    return "ok", given


def _compare_tags(digest: str, expected: Expected, tags: Iterable[str]) -> Found:
    """What the repository says of itself: it catches mistakes, and those who may write files but no tags."""
    name = "tags of the repository"
    wrong = [tag for tag in expected.tags_here if not digest.startswith(digits_of(tag))]
    if wrong:
        return Found(
            name,
            "failed",
            f"{wrong[0]} is the tag of this commit, and the manifest has {digest}: the tag was moved, or the manifest "
            "was written anew",
        )
    fitting = [tag for tag in tags if digest.startswith(digits_of(tag))]
    if not fitting:
        return Found(
            name,
            "failed",
            f"none of them names the manifest {digest} (they are {', '.join(list(tags)[:3])}): it was written anew",
        )
    best = max(fitting, key=len)
    if len(digits_of(best)) < MIN_EXPECTED_DIGITS:
        return Found(name, "skipped", f"{best} fits, and has too few digits to prove anything")
    return Found(name, "ok", f"{best}; whoever may write to the repository can write this too")


__all__ = ["ExpectationError", "Expected", "check_expected", "digits_of", "is_tag"]
