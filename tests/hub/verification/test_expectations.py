"""What the user names is what the manifest has to be, in full; what a repository says of itself is said to be that."""

import pytest

from transformers_llava.hub.upload.remote import RemoteState, expected_of
from transformers_llava.hub.verification.expectation import ExpectationError, Expected, check_expected, is_tag


DIGEST, OTHER = "ab" * 32, "cd" * 32
TAG, OTHER_TAG = f"v-{DIGEST[:32]}", f"v-{OTHER[:32]}"


def found(expected: Expected) -> dict[str, tuple[str, str]]:
    return {one.name: (one.status, one.message) for one in check_expected(DIGEST, expected)}


@pytest.mark.parametrize("given", [DIGEST, TAG, TAG.upper().replace("V-", "v-"), f"v-{DIGEST}", DIGEST[:40]])
def test_a_digest_of_128_bits_or_more_that_fits_is_ok(given: str) -> None:
    assert found(Expected().and_digest(given)) == {"expected digest": ("ok", given)}


@pytest.mark.parametrize("given", ["", "v-", "ab", DIGEST[:12], f"v-{DIGEST[:31]}"])
def test_a_short_digest_is_refused(given: str) -> None:
    with pytest.raises(ExpectationError, match=r"digits|no digest"):
        Expected().and_digest(given)


@pytest.mark.parametrize("given", ["main", "v-xyz", "g" * 64, "ab" * 40])
def test_what_is_no_digest_is_refused(given: str) -> None:
    with pytest.raises(ExpectationError, match="is no digest"):
        Expected().and_digest(given)


def test_the_tag_that_was_named_is_the_expectation_whatever_else_the_repository_holds() -> None:
    # The good tag was moved onto other content, which has a tag of its own.
    moved = RemoteState("me/x", "commit", {}, {OTHER_TAG: "commit", TAG: "elsewhere"})
    assert found(expected_of(moved, f"refs/tags/{OTHER_TAG}"))["expected digest"][0] == "failed"
    status, message = found(expected_of(moved, OTHER_TAG))["expected digest"]
    assert status == "failed"
    assert f"expected {OTHER_TAG}, the manifest has {DIGEST}" in message
    both = Expected((OTHER_TAG,)).and_digest(TAG)
    assert [one.status for one in check_expected(DIGEST, both)] == ["failed", "ok"]


def test_an_old_tag_of_twelve_digits_is_no_expectation() -> None:
    old = RemoteState("me/x", "commit", {}, {f"v-{DIGEST[:12]}": "commit"})
    status, message = found(expected_of(old, f"v-{DIGEST[:12]}"))["expected digest"]
    assert status == "failed"
    assert "has 12 digits" in message
    assert "--expect" in message
    assert found(expected_of(old, f"v-{DIGEST[:12]}").and_digest(DIGEST))["tags of the repository"][0] == "skipped"
    assert found(expected_of(old, None))["tags of the repository"][0] == "skipped"


@pytest.mark.parametrize(
    ("tags", "status"),
    [
        ({}, None),
        ({"main-tag": "commit"}, None),
        ({TAG: "commit"}, "ok"),
        ({TAG: "earlier", OTHER_TAG: "earlier still"}, "ok"),  # the card was edited since
        ({OTHER_TAG: "earlier"}, "failed"),  # the manifest was written anew
        ({TAG: "earlier", OTHER_TAG: "commit"}, "failed"),  # a moved tag
        ({TAG: "commit", OTHER_TAG: "commit"}, "failed"),
    ],
)
def test_the_tags_of_a_repository_are_what_it_says_of_itself(tags: dict[str, str], status: str | None) -> None:
    report = found(expected_of(RemoteState("me/x", "commit", {}, tags), None))
    assert report["expected digest"][0] == "skipped"
    assert report.get("tags of the repository", (None,))[0] == status


def test_a_revision_that_looks_like_a_digest_is_one() -> None:
    assert [is_tag(name) for name in (None, "main", "v-", "v-1.0", "v-xyz", "v-0a1b", TAG, TAG.upper())] == [
        *(False, False, False, False, False, True, True, True)
    ]
