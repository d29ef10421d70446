"""Refuse requests with the status and `X-Error-Code` by which the client tells refusals apart."""


class HubError(Exception):
    """
    Args:
        status (`int`): HTTP status.
        message (`str`): becomes `X-Error-Message` and the body's `error`.
        code (`str`, *optional*): `X-Error-Code`, which the client turns into an exception of its own.
        headers (`dict`, *optional*): what else the answer says, for example the commit that lacks the file.
    """

    def __init__(self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, headers or {}


def no_repository() -> HubError:
    return HubError(404, "Repository not found", "RepoNotFound")


def no_revision(revision: str) -> HubError:
    return HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def no_file(path: str, commit: str | None = None) -> HubError:
    headers = {"X-Repo-Commit": commit} if commit else {}
    return HubError(404, f"Entry not found: {path}", "EntryNotFound", headers)


def overtaken() -> HubError:
    return HubError(412, "A commit has happened since. Please refresh and try again.")
