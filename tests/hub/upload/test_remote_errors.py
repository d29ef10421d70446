"""No network, gated and missing repositories: one sentence each, with what helps."""

import argparse
import socket
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tests.fake_hub.loopback import LoopbackHub

from transformers_llava.cli.commands.publications.publication_arguments import open_publication
from transformers_llava.cli.errors import CommandError
from transformers_llava.cli.main import main
from transformers_llava.hub.upload.remote import fetch_publication, read_remote
from transformers_llava.hub.upload.remote_errors import RemoteError, explain, remote_errors


def answer(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    request = httpx2.Request("GET", "https://huggingface.co/api/models/me/x")
    return kind(f"{status} error\nmore", response=httpx2.Response(status, request=request))


ERRORS = [
    (answer(GatedRepoError, 403), "is gated"),
    (answer(DisabledRepoError, 403), "was disabled"),
    (answer(RepositoryNotFoundError, 404), "has no repository 'me/x' that this account can read"),
    (answer(RevisionNotFoundError, 404), "has no revision 'v-1'"),
    (answer(HfHubHTTPError, 401), "hf auth login"),
    (answer(HfHubHTTPError, 503), "answered 503"),
    (httpx2.ConnectError("no route to host"), "cannot be reached"),
    (httpx2.ReadTimeout("timed out"), "cannot be reached"),
    (ConnectionResetError("reset"), "cannot be reached"),
    (LocalEntryNotFoundError("no connection and not cached"), "cannot be reached"),
]


@pytest.mark.parametrize(("error", "message"), ERRORS, ids=[message for _, message in ERRORS])
def test_every_error_of_the_client_is_one_sentence(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(RemoteError, match="'me/x'") as raised, remote_errors("me/x", "v-1"):
        raise error
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_other_errors_stay_what_they_are() -> None:
    assert explain(KeyError("x"), "me/x") is None
    with pytest.raises(KeyError), remote_errors("me/x"):
        raise KeyError("x")


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address at which nobody answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)


def test_without_a_network_the_command_says_so(nobody: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RemoteError, match="cannot be reached"):
        read_remote(HfApi(), "me/x")
    assert main(["verify", "me/x"]) == 2
    said = capsys.readouterr().err
    assert "cannot be reached for the repository 'me/x'" in said
    assert "Traceback" not in said


def test_offline_mode_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "me/x"]) == 2  # tests/conftest.py has turned it on
    assert "HF_HUB_OFFLINE" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a/b/c", "me/..", "no such folder!"])
def test_what_is_no_name_is_said_so(nobody: None, name: str) -> None:
    with pytest.raises(RemoteError, match=r"cannot be the name|has no repository|cannot be reached"):
        fetch_publication(HfApi(), name)


def test_a_missing_repository_and_revision_have_messages_of_their_own(loopback_hub: LoopbackHub) -> None:
    api = HfApi(endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    with pytest.raises(RemoteError, match="neither a folder here nor a repository"):
        fetch_publication(api, "loopback/none")
    api.create_repo("loopback/some")
    with pytest.raises(RemoteError, match="has no revision 'v-0123'"):
        fetch_publication(api, "loopback/some", "v-0123")


def arguments(publication: Path | str, **changes: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"publication": str(publication), "revision": None, **changes})


def test_a_revision_of_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="is a folder here, and --revision v-0123"):
        open_publication(arguments(tmp_path, revision="v-0123"))


def test_a_short_digest_and_missing_folders_end_before_anything_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for flags, message in [
        (["--expect", "0123456789ab"], "has 12 digits"),
        (["--expect", "main"], "is no digest"),
        (["--data_root", "nowhere"], "--data_root 'nowhere' is no folder"),
        (["--retrained", "nowhere"], "--retrained 'nowhere' is no folder"),
    ]:
        assert main(["verify", str(tmp_path), *flags]) == 2
        assert message in capsys.readouterr().err
