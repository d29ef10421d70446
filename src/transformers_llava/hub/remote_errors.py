"""Turn what the Hub's client raises into one sentence that says why, and what helps."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)


class RemoteError(ValueError):
    """A repository of the Hub cannot be read or written: why, and what helps."""


@contextmanager
def remote_errors(repo_id: str, revision: str | None = None) -> Iterator[None]:
    """
    Raise a `RemoteError` in place of what the Hub's client raises for a repository.

    ```python
    >>> with remote_errors("me/x"):
    ...     HfApi().repo_info("me/x")
    ```
    """
    try:
        yield
    except (RemoteError, KeyboardInterrupt):
        raise
    except Exception as error:
        explained = explain(error, repo_id, revision)
        if explained is None:
            raise
        raise explained from error


def explain(error: Exception, repo_id: str, revision: str | None = None) -> RemoteError | None:
    """What an error of the Hub's client means for a repository; `None` for an error that is not the client's."""
    if isinstance(error, OfflineModeIsEnabled):
        return RemoteError(
            f"{repo_id!r} is on the Hub, and HF_HUB_OFFLINE forbids to ask it. Unset it, or name a folder that holds "
            "the publication."
        )
    if isinstance(error, GatedRepoError):
        return RemoteError(
            f"{repo_id!r} is gated, and this account has no access to it. Ask for it at "
            f"https://huggingface.co/{repo_id}, then log in with `hf auth login`."
        )
    if isinstance(error, DisabledRepoError):
        return RemoteError(f"{repo_id!r} was disabled by the Hub. Nothing can be read from it.")
    if isinstance(error, RepositoryNotFoundError):
        return RemoteError(
            f"the Hub has no repository {repo_id!r} that this account can read. Check the name; a private one needs "
            "`hf auth login` with an account that may read it."
        )
    if isinstance(error, RevisionNotFoundError):
        return RemoteError(
            f"{repo_id!r} has no revision {revision!r}. Name a tag, a branch or a commit of it; tags of publications "
            "are `v-` and 32 digits (12 before)."
        )
    if isinstance(error, HFValidationError):
        return RemoteError(f"{repo_id!r} is neither a folder here nor a name of the Hub, which is OWNER/NAME.")
    if isinstance(error, LocalEntryNotFoundError) or _is_of_the_line(error):
        return RemoteError(
            f"the Hub cannot be reached for {repo_id!r} ({_first_line(error)}). Check the network, a proxy and "
            "HF_ENDPOINT, and run the command again; a folder can be named in place of a repository."
        )
    if isinstance(error, EntryNotFoundError):
        return RemoteError(f"{repo_id!r} lacks a file that is needed: {_first_line(error)}.")
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403):
            return RemoteError(
                f"the Hub refuses this account for {repo_id!r} ({_first_line(error)}). Log in with `hf auth login`, "
                "with a token that has the right to it."
            )
        return RemoteError(
            f"the Hub answers {status or 'with an error'} for {repo_id!r} ({_first_line(error)}). Run the command "
            "again later."
        )
    return None


def _is_of_the_line(error: BaseException) -> bool:
    """A connection that fails: of the system, or of the HTTP library of the client (httpx, later httpx2)."""
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    return bool(names & {"httpx.TransportError", "httpx2.TransportError", "httpx.InvalidURL", "httpx2.InvalidURL"})


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200].rstrip(".")


__all__ = ["RemoteError", "explain", "remote_errors"]
