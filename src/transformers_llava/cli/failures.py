"""Turn what slipped through a command into a short report: what failed, where, and what to do; never a traceback."""

import errno
import os
import traceback
from pathlib import Path

from transformers_llava.cli.errors import CommandError
from transformers_llava.cli.extras import extra_of


TRACEBACK_VARIABLE = "LLAVA_TRACEBACK"
USER_MISTAKE = 2
UNEXPECTED = 3
INTERRUPTED = 130  # 128 + SIGINT, as a shell has it

_PACKAGE = Path(__file__).resolve().parents[1]
_LONGEST = 2_000  # characters of a message; some libraries print a whole configuration


def wants_traceback() -> bool:
    """Whether the user asked for tracebacks with `LLAVA_TRACEBACK=1`."""
    return os.environ.get(TRACEBACK_VARIABLE, "") not in ("", "0")


def describe_failure(error: BaseException, command: str) -> tuple[str, int]:
    """
    Describe an exception that a command did not catch.

    Args:
        error (`BaseException`): What was raised.
        command (`str`): Such as `train`, for the first words of the message.

    Returns:
        `tuple[str, int]`: The text for standard error, and the exit status: 2 where the user can mend it (a
        `ValueError` of ours, a missing library, a missing or unreachable file or repository), 130 for Ctrl-C, else 3.
    """
    if isinstance(error, KeyboardInterrupt):
        return f"llava {command}: interrupted.", INTERRUPTED
    known = _known(error)
    if known is not None:
        return f"llava {command}: {known}", USER_MISTAKE
    return (
        f"llava {command}: failed with {type(error).__name__}: {_shortened(error)}\n"
        f"  at {_where(error)}\n"
        "  Nobody foresaw this: either the input is of a new kind, or it is a fault of ours.\n"
        f"  {TRACEBACK_VARIABLE}=1 shows the traceback. Please report it with the output of `llava env`.",
        UNEXPECTED,
    )


def _known(error: BaseException) -> str | None:
    if isinstance(error, CommandError):
        return str(error)
    if isinstance(error, ImportError):
        return _missing_library(error)
    hub = _hub_failure(error)
    if hub is not None:
        return hub
    if isinstance(error, OSError) and error.errno is not None:
        return explain_file_error(error)
    if isinstance(error, ValueError) and _is_ours(error):  # says cause, consequence and remedy
        return str(error)
    return None


def _missing_library(error: ImportError) -> str | None:
    name = (error.name or "").partition(".")[0]
    if name == _PACKAGE.name or (not name and not _is_ours(error)):
        return None
    extra = extra_of(name)
    if extra is None and not isinstance(error, ModuleNotFoundError):
        return None
    remedy = f"pip install 'transformers-llava[{extra}]'" if extra else f"pip install {name}"
    return f"the library {name or error} is not installed, and this command needs it. Install it: {remedy}"


def _hub_failure(error: BaseException) -> str | None:
    """What the Hub's client means, wherever in the chain of causes it speaks."""
    from transformers_llava.artifacts.hub_errors import explain_hub_error

    return next((reason for one in _chain(error) if (reason := explain_hub_error(one)) is not None), None)


def explain_user_error(error: ValueError | OSError) -> str:
    """The message of a `ValueError`, which says what helps; that of the system with what helps."""
    explained = explain_file_error(error) if isinstance(error, OSError) and error.errno is not None else None
    return explained or str(error)


def explain_file_error(error: OSError) -> str | None:
    """What an error of the file system means, and what helps; `None` for one without a known number."""
    name = repr(str(error.filename)) if error.filename is not None else "a file"
    reasons = {
        errno.ENOENT: "does not exist",
        errno.EACCES: "may not be opened by you",
        errno.EPERM: "may not be changed by you",
        errno.EEXIST: "exists already, and would have to be a folder",
        errno.EISDIR: "is a folder, and a file is needed",
        errno.ENOTDIR: "lies below something that is a file",
        errno.ENOSPC: "cannot be written: the disk is full",
        errno.EDQUOT: "cannot be written: your quota is used up",
        errno.EROFS: "lies on a read-only disk",
        errno.ENAMETOOLONG: "has a name that is too long",
        errno.EADDRINUSE: "(an address of the network) is in use; choose another port",
    }
    reason = reasons.get(error.errno or 0)
    return None if reason is None else f"{name} {reason}. Correct the path or make room, and run the command again."


def _chain(error: BaseException) -> list[BaseException]:
    """The exception and those that it was raised from."""
    found: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in found:
        found.append(one)
        one = one.__cause__ or one.__context__
    return found


def _is_ours(error: BaseException) -> bool:
    """Whether the innermost frame, where it was raised, is code of this package."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).resolve().is_relative_to(_PACKAGE)


def _where(error: BaseException) -> str:
    """The innermost frame of ours, and the innermost of all: enough to find the place without a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).resolve().is_relative_to(_PACKAGE)]
    places = [ours[-1]] if ours else []
    places += [frames[-1]] if frames and frames[-1] not in places else []
    return ", in ".join(f"{Path(*Path(place.filename).parts[-3:])}:{place.lineno}" for place in places) or "the start"


def _shortened(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


__all__ = [
    "INTERRUPTED",
    "TRACEBACK_VARIABLE",
    "UNEXPECTED",
    "USER_MISTAKE",
    "describe_failure",
    "explain_file_error",
    "explain_user_error",
    "wants_traceback",
]
