"""Make the processes of a run agree before they train: where it is saved, where it resumes, what it reads.

A process that fails, or decides otherwise, leaves the others waiting in their next collective operation, for half an
hour and without a word. So each decision is gathered, and all stop together, with a message that names the process.
"""

import hashlib
import socket
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import torch.distributed

from transformers_llava.training.recipe.recipe_error import RecipeError


Result = TypeVar("Result")

# One machine may read and measure data for hours that another one finds in its cache.
_PATIENCE = timedelta(days=1)
_ATTEMPTS, _PAUSE = 3, 0.5  # to see another machine's file: network file systems may be late


class Agreement:
    """
    Lets processes compare. With a single process everything here is done locally and at once.

    Over gloo, beside whatever the accelerators use. Collective: every process makes one, and calls the same methods.
    """

    def __init__(self) -> None:
        is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        self._group: Any = None
        if is_distributed and torch.distributed.get_world_size() > 1:
            self._group = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)

    @property
    def rank(self) -> int:
        return 0 if self._group is None else torch.distributed.get_rank()

    def gather(self, value: Any) -> list[Any]:
        """The value of every process, in their order."""
        if self._group is None:
            return [value]
        values: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(values, value, group=self._group)
        return values

    def on_every_process(self, function: Callable[[], Result]) -> Result:
        """
        Calls a function; where it fails in one process, all of them stop.

        Raises:
            `RecipeError`: Another process failed; with its name and what it said. Its own error is raised as it is.
        """
        failure: Exception | None = None
        result: Any = None
        try:
            result = function()
        except Exception as error:
            failure = error
        said = None if failure is None else f"{type(failure).__name__}: {failure}"
        outcomes = self.gather(
            (_name(self.rank), said)
        )  # the last collective operation: a process that failed is gone
        if failure is not None:
            raise failure
        for name, message in outcomes:
            if message is not None:
                raise RecipeError(f"{name} stopped, so all processes do. It said: {message}")
        return result

    def check_same(self, value: str, what: str, remedy: str) -> None:
        """
        Refuses to go on where processes have different values.

        Raises:
            `RecipeError`: With every value and the processes that have it.
        """
        found = self.gather((_name(self.rank), value))
        if len({value for _, value in found}) > 1:
            raise RecipeError(
                f"the processes of this run differ in {what}, so they would part and wait for each other for ever: "
                f"{_by_value(found)}. {remedy}"
            )

    def check_shared_folder(self, folder: Path) -> None:
        """
        Refuses a folder that is not the same one on every machine: a file of the first process must be seen by all.

        Checkpoints are complete only together: random states of every process, and with a sharded backend its part of
        the weights.

        Raises:
            `RecipeError`: With the processes that do not see it.
        """
        if self._group is None:
            return
        name = self.gather(f".seen-by-all-{uuid4().hex}")[0]  # a new name: no machine has it in a cache as absent
        self.on_every_process(lambda: _leave_file(folder, name) if self.rank == 0 else None)
        try:
            found = self.gather((_name(self.rank), _is_seen(folder / name)))
        finally:
            if self.rank == 0:
                (folder / name).unlink(missing_ok=True)
        blind = [process for process, is_seen in found if not is_seen]
        if blind:
            raise RecipeError(
                f"`output_dir` ({str(folder)!r}) is not one folder for all machines: a file that {found[0][0]} wrote "
                f"there is not seen by {', '.join(blind)}. Each machine would keep its own part of every checkpoint, "
                "and none could be resumed. Set `output_dir` to a folder that all machines share, such as one on a "
                "network file system."
            )


def state_of_checkpoint(checkpoint: str | None) -> str:
    """A checkpoint in words that are equal for equal checkpoints, wherever they lie."""
    if checkpoint is None:
        return "no checkpoint"
    folder = Path(checkpoint)
    digest = hashlib.sha256((folder / "trainer_state.json").read_bytes()).hexdigest()
    return f"{folder.name} ({digest[:12]})"


def _name(rank: int) -> str:
    return f"process {rank} on {socket.gethostname()}"


def _by_value(found: Sequence[tuple[str, str]]) -> str:
    values: dict[str, list[str]] = {}
    for name, value in found:
        values.setdefault(value, []).append(name)
    return "; ".join(
        f"{value} for {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}"
        for value, names in values.items()
    )


def _leave_file(folder: Path, name: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    except OSError as error:
        raise RecipeError(
            f"`output_dir` ({str(folder)!r}) cannot be written: {error}. Choose a folder that can."
        ) from error


def _is_seen(path: Path) -> bool:
    for attempt in range(_ATTEMPTS):
        if path.is_file():
            return True
        if attempt + 1 < _ATTEMPTS:
            time.sleep(_PAUSE)
    return False


__all__ = ["Agreement", "state_of_checkpoint"]
