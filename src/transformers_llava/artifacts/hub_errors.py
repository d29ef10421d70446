"""Turn what the Hub's client raises into one sentence that says why, and what helps."""

from huggingface_hub import constants
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


_TRANSPORT_ERRORS = {
    f"{library}.{name}" for library in ("httpx", "httpx2") for name in ("TransportError", "InvalidURL")
} | {"requests.ConnectionError", "requests.Timeout"}  # of the client's HTTP library, which has changed twice


def explain_hub_error(error: BaseException, name: str | None = None, revision: str | None = None) -> str | None:
    """
    What an error of the Hub's client means, and what helps; `None` for an error that is not the client's.

    Contract: every message of this package about the Hub is made here; callers put their own first words before it.

    Args:
        error (`BaseException`): What was raised.
        name (`str`, *optional*): Of the repository that was asked for; by default what the error knows of it.
        revision (`str`, *optional*): That was asked for.
    """
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, HfHubHTTPError):
        error = error.__cause__  # the client says "cannot be reached" also of a server that has answered
    name = name or getattr(error, "repo_id", None)
    named = f" {_shown(name)}" if name else ""
    login = "log in with `hf auth login` (or set HF_TOKEN)"
    if isinstance(error, OfflineModeIsEnabled) or (
        isinstance(error, LocalEntryNotFoundError) and constants.is_offline_mode()
    ):
        return (
            f"there is no such folder, and HF_HUB_OFFLINE is set, so that the repository{named} is only read if it "
            "was downloaded before. Unset it, or name a folder."
        )
    if isinstance(error, GatedRepoError):
        page = f" at {constants.ENDPOINT}/{name}" if name else " on its page"
        return f"the repository{named} is gated, and this account has no access to it. Ask for it{page}, then {login}."
    if isinstance(error, DisabledRepoError):
        return f"the repository{named} was disabled by the Hub, and nothing can be read from it. Name another."
    if isinstance(error, RevisionNotFoundError):
        return (
            f"the repository{named} has no revision {_shown(revision)}. Name a branch, a tag or a commit of it; tags "
            "of publications are `v-` and 32 digits (12 before)."
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"there is no such folder, and {constants.ENDPOINT} has no repository{named} that this account can read. "
            f"Check the spelling; if it is private, {login}."
        )
    if isinstance(error, HFValidationError):
        said = named or f" ({_first_line(error)})"
        return (
            f"there is no such folder, and it cannot be the name of a Hub repository (OWNER/NAME):{said}. Check the "
            "spelling."
        )
    if isinstance(error, LocalEntryNotFoundError) or is_transport_error(error):
        return (
            f"there is no such folder, and the Hub at {constants.ENDPOINT} cannot be reached for the "
            f"repository{named} ({_first_line(error)}). Check the network, HF_ENDPOINT and the proxy (HTTPS_PROXY), "
            "or name a folder."
        )
    if isinstance(error, EntryNotFoundError):
        return (
            f"the repository{named} lacks a file that is needed ({_first_line(error)}). Name another revision or one."
        )
    if isinstance(error, HfHubHTTPError):
        return _answer(error, named, login)
    return None


def is_transport_error(error: BaseException) -> bool:
    """Whether a connection of the client's HTTP library failed."""
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    return bool(names & _TRANSPORT_ERRORS)


def _answer(error: HfHubHTTPError, named: str, login: str) -> str:
    response = getattr(error, "response", None)
    status = response.status_code if response is not None else None
    said = _first_line(error)
    if status in (401, 403):
        return f"the Hub refuses this account the repository{named} ({said}). To use one that may, {login}."
    return (
        f"{constants.ENDPOINT} answered {status or 'with an error'} for the repository{named} ({said}). Run the "
        "command again later."
    )


def _shown(name: object) -> str:
    text = str(name)
    return repr(text if len(text) <= 200 else f"{text[:200]}...")


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200].rstrip(".")


__all__ = ["explain_hub_error", "is_transport_error"]
