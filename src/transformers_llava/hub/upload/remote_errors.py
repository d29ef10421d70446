"""Raise a `RemoteError` in place of what the Hub's client raises for a repository."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers_llava.artifacts.hub_errors import explain_hub_error


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
    reason = explain_hub_error(error, repo_id, revision)
    if reason is None and isinstance(error, ConnectionError | TimeoutError):  # of the system, while the Hub was asked
        said = str(error).strip() or type(error).__name__
        reason = f"the Hub cannot be reached ({said}). Check the network, and run the command again."
    return None if reason is None else RemoteError(f"{repo_id!r} is out of reach: {reason}")


__all__ = ["RemoteError", "explain", "remote_errors"]
