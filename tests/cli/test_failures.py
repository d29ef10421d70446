"""What slips through a command ends in a message, and in a traceback only where the user asks for one."""

import errno
import subprocess
import sys

import pytest
from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

from transformers_llava.cli import main as cli
from transformers_llava.cli.failures import describe_failure


def _raise(error: BaseException):
    def run(args):
        raise error

    return run


@pytest.fixture
def failing(monkeypatch):
    """Make `llava env` raise."""
    from transformers_llava.cli.commands import env

    def install(error: BaseException) -> None:
        monkeypatch.setattr(env, "run", _raise(error))

    monkeypatch.delenv("LLAVA_TRACEBACK", raising=False)
    return install


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (
            RuntimeError("tensors of sizes 3 and 4"),
            3,
            ["RuntimeError: tensors of sizes 3 and 4", "llava env", "test_fail"],
        ),
        (ValueError("of a library"), 3, ["ValueError: of a library", "LLAVA_TRACEBACK=1"]),
        (RecursionError("x" * 5000), 3, ["RecursionError: xxx", "..."]),
        (MemoryError(), 3, ["MemoryError"]),
        (KeyboardInterrupt(), 130, ["interrupted"]),
        (ModuleNotFoundError("No module named 'trl'", name="trl"), 2, ["transformers-llava[train]"]),
        (ModuleNotFoundError("No module named 'wat'", name="wat"), 2, ["pip install wat"]),
        (FileNotFoundError(errno.ENOENT, "No such file", "x.json"), 2, ["'x.json' does not exist"]),
        (OSError(errno.ENOSPC, "No space left", "out.bin"), 2, ["disk is full"]),
        (OfflineModeIsEnabled("offline"), 2, ["HF_HUB_OFFLINE"]),
        (HFValidationError("'/nonexistent' is not valid"), 2, ["no such folder"]),
    ],
)
def test_what_slips_through_is_a_short_report(error, status, words, failing, capsys) -> None:
    failing(error)
    assert cli.main(["env"]) == status
    printed = capsys.readouterr().err
    assert printed.startswith("llava env: ")
    assert [word for word in words if word not in printed] == []
    assert "Traceback" not in printed
    assert len(printed) < 3000


def test_the_cause_of_an_error_is_looked_for(failing, capsys) -> None:
    wrapped = RuntimeError("cannot load")
    wrapped.__cause__ = OfflineModeIsEnabled("offline")
    failing(wrapped)
    assert cli.main(["env"]) == 2
    assert "HF_HUB_OFFLINE" in capsys.readouterr().err


def test_a_traceback_is_shown_where_it_is_asked_for(failing, monkeypatch) -> None:
    failing(RuntimeError("inside"))
    monkeypatch.setenv("LLAVA_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="inside"):
        cli.main(["env"])


def test_a_value_error_of_ours_is_a_message_for_the_user() -> None:
    from transformers_llava.chat_templates import load_chat_template

    with pytest.raises(ValueError) as raised:
        load_chat_template("wat")
    text, status = describe_failure(raised.value, "inspect")
    assert status == 2
    assert text == f"llava inspect: {raised.value}"


def test_a_reader_who_leaves_ends_the_command_without_a_word() -> None:
    command = f"{sys.executable} -m transformers_llava.cli.main recipes fields | head -n 1"
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True, timeout=900)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert len(done.stdout.splitlines()) == 1
